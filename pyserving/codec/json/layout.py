"""What stands around and between the elements of an array in an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Layout:
    """The brackets of an array of one shape, in one style of white space."""

    opening: bytes
    separators: tuple[bytes, ...]
    """Between two elements, by how many lists end there: the first between neighbours in the innermost list."""
    closing: bytes

    def joined(self, texts: list[bytes], shape: tuple[int, ...]) -> bytes:
        """The array as one text; `shape` has no zeros."""
        parts = [self.opening] * (2 * len(texts) + 1)
        parts[1::2] = texts
        parts[2:-1:2] = self._between(shape)
        parts[-1] = self.closing
        return b"".join(parts)

    def _between(self, shape: tuple[int, ...]) -> list[bytes]:
        """What stands between the elements, in order: one fewer than there are."""
        gaps: list[bytes] = []
        for separator, size in zip(self.separators, reversed(shape), strict=False):
            gaps = [*gaps, separator] * (size - 1) + gaps
        return gaps


@lru_cache(maxsize=64)
def single_line(dimensions: int) -> Layout:
    """`[[1.0, 2.0], [3.0, 4.0]]`"""
    return _layout(dimensions, b", ", lambda depth: b"")


@lru_cache(maxsize=64)
def compact(dimensions: int) -> Layout:
    """`[[1.0,2.0],[3.0,4.0]]`"""
    return _layout(dimensions, b",", lambda depth: b"")


@lru_cache(maxsize=64)
def pretty(dimensions: int, depth: int) -> Layout:
    """Every item on a line of its own; `depth` containers stand around the array."""
    return _layout(dimensions, b",", lambda inner: line(depth + inner))


@lru_cache(maxsize=64)
def line(depth: int) -> bytes:
    """The start of a line within so many containers."""
    return b"\n" + b"    " * depth


def _layout(dimensions: int, comma: bytes, line_at: Callable[[int], bytes]) -> Layout:
    """`line_at` gives what goes before an item or a closing bracket within so many of the array's own lists."""
    opening = [b"[" + line_at(level + 1) for level in range(dimensions)]
    closing = [line_at(level) + b"]" for level in range(dimensions)]
    separators = []
    for ending in range(max(dimensions, 1)):
        level = dimensions - ending
        separators.append(b"".join([*reversed(closing[level:]), comma, line_at(level), *opening[level:]]))
    return Layout(b"".join(opening), tuple(separators), b"".join(reversed(closing)))
