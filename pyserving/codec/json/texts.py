"""Many short texts laid side by side at once, with the brackets and commas of an array between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyserving.codec.json.layout import Layout

WORD_BYTES = 8
_WORD = np.dtype("<u8")


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of an array's elements, in order."""

    words: Sequence[np.ndarray]
    """uint64 [n] each: bytes 0 to 7 of every text, then bytes 8 to 15, ... Beyond a text's end they mean nothing."""
    lengths: np.ndarray
    """int64 [n]; every text has a byte at least."""

    def joined(self, layout: Layout, shape: tuple[int, ...]) -> bytes:
        """The array as one text; `shape` has no zeros."""
        gaps = np.full(len(self.lengths), len(layout.separators[0]))
        for period, separator in _outer_separators(layout, shape):
            gaps[period::period] = len(separator)
        gaps[0] = len(layout.opening)
        starts = np.cumsum(self.lengths + gaps) - self.lengths
        end = int(starts[-1] + self.lengths[-1])
        out = np.empty(end + len(layout.closing) + WORD_BYTES * len(self.words), np.uint8)
        self._write_words(out, starts)
        _write_before(out, starts[1:], layout.separators[0])
        for period, separator in _outer_separators(layout, shape):
            _write_before(out, starts[period::period], separator)
        _write_before(out, starts[:1], layout.opening)
        _write_before(out, np.array([end + len(layout.closing)]), layout.closing)
        return out[: end + len(layout.closing)].tobytes()

    def _write_words(self, out: np.ndarray, starts: np.ndarray) -> None:
        """A word may run over its text's end into texts behind it, but never into later words of theirs.

        So the last words come first, and in each turn the texts in their order: what was run over is written after.
        """
        at_every_byte = np.ndarray((len(out) - WORD_BYTES + 1,), _WORD, out, strides=(1,))
        used = -(-int(self.lengths.max()) // WORD_BYTES)
        for index in reversed(range(used)):
            at_every_byte[starts + WORD_BYTES * index] = self.words[index]


def _outer_separators(layout: Layout, shape: tuple[int, ...]) -> list[tuple[int, bytes]]:
    """Those where lists end, each with the number of elements after which it comes again; the longest last."""
    periods = np.cumprod(shape[:0:-1]).tolist()
    return list(zip(periods, layout.separators[1:], strict=True))


def _write_before(out: np.ndarray, places: np.ndarray, text: bytes) -> None:
    for offset, byte in enumerate(text, -len(text)):
        out[places + offset] = byte


def as_word(text: bytes) -> int:
    """The first eight bytes as one number, NULs for those that are missing."""
    return int.from_bytes(text[:WORD_BYTES].ljust(WORD_BYTES, b"\0"), "little")
