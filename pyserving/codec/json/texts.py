"""Many short texts laid side by side at once, with the brackets and commas of an array between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pyserving.codec.json.layout import Layout

WORD_BYTES = 8
_WORD = np.dtype("<u8")


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of elements of an array, in order."""

    words: Sequence[np.ndarray]
    """uint64 [n] each: bytes 0 to 7 of every text, then bytes 8 to 15, ... Beyond a text's end they mean nothing."""
    lengths: np.ndarray
    """int64 [n]; every text has a byte at least."""

    def laid_out(self, separators: Sequence[tuple[int, bytes]], before: int) -> bytes:
        """Each text with its separator before it, but for the first of the array; `before` elements came before these.

        A separator comes with the number of elements after which it comes again; later ones take the place of earlier.
        """
        first = [(-before % period if before else period, period, separator) for period, separator in separators]
        gaps = np.zeros(len(self.lengths), np.int64)
        for start, period, separator in first:
            gaps[start::period] = len(separator)
        starts = np.cumsum(self.lengths + gaps) - self.lengths
        end = int(starts[-1] + self.lengths[-1])
        out = np.empty(end + WORD_BYTES * len(self.words), np.uint8)
        self._write_words(out, starts)
        for start, period, separator in first:
            _write_before(out, starts[start::period], separator)
        return out[:end].tobytes()

    def _write_words(self, out: np.ndarray, starts: np.ndarray) -> None:
        """A word may run over its text's end into texts behind it, but never into later words of theirs.

        So the last words come first, and in each turn the texts in their order: what was run over is written after.
        """
        at_every_byte = np.ndarray((len(out) - WORD_BYTES + 1,), _WORD, out, strides=(1,))
        used = -(-int(self.lengths.max()) // WORD_BYTES)
        for index in reversed(range(used)):
            at_every_byte[starts + WORD_BYTES * index] = self.words[index]


def joined(parts: Iterable[Texts], layout: Layout, shape: tuple[int, ...]) -> bytes:
    """An array's texts, which come in parts, as one text; `shape` has no zeros."""
    periods = np.cumprod([1, *shape[:0:-1]]).tolist()
    separators = list(zip(periods, layout.separators, strict=True))
    pieces, before = [layout.opening], 0
    for part in parts:
        pieces.append(part.laid_out(separators, before))
        before += len(part.lengths)
    return b"".join([*pieces, layout.closing])


def _write_before(out: np.ndarray, places: np.ndarray, text: bytes) -> None:
    for offset, byte in enumerate(text, -len(text)):
        out[places + offset] = byte


def as_word(text: bytes) -> int:
    """The first eight bytes as one number, NULs for those that are missing."""
    return int.from_bytes(text[:WORD_BYTES].ljust(WORD_BYTES, b"\0"), "little")
