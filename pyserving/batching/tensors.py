"""Rows of several requests in one array, and back: merging, padding, splitting, and memory that is used again.

Merging happens in the thread that runs the batch; the memory for it is handed out on the loop.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Sequence
from itertools import accumulate
from math import prod

import numpy as np

from pyserving.errors import FailedPrecondition, Internal, InvalidArgument

_ALIGNMENT = 64
"""Bytes. TensorFlow takes memory that begins on such a boundary as it is, and copies any other."""
_MOST_PADDED_RANK = 6


class Unsplittable(FailedPrecondition):
    """Outputs that do not have a row for each row of the inputs."""


class Unjoinable(Internal):
    """Outputs of a request's pieces that differ in more than their rows."""


def batch_rows(arrays: Sequence[np.ndarray]) -> int:
    """Rows of a request; 0 for one that no batch can take up: without arrays or rows, or with a scalar.

    Raises InvalidArgument when arrays differ in their rows.
    """
    rows = -1
    for array in arrays:
        shape = array.shape
        if not shape:
            return 0
        if shape[0] != rows:
            if rows >= 0:
                raise InvalidArgument("Batching Run() input tensors must have equal 0th-dimension size")
            rows = shape[0]
    return max(rows, 0)


def shapes(arrays: Sequence[np.ndarray]) -> Hashable:
    """What arrays must have in common to be merged; their dtypes are those of the plan."""
    if len(arrays) == 1:
        return arrays[0].shape[1:]
    return tuple(array.shape[1:] for array in arrays)


def padded_shapes(arrays: Sequence[np.ndarray]) -> Hashable:
    """What arrays must have in common to be merged when they are padded: ranks.

    Those that cannot be padded, by their rank or because they have no element to pad with, are merged with their like.
    """
    return tuple(array.ndim if array.ndim <= _MOST_PADDED_RANK and array.size else array.shape[1:] for array in arrays)


def padding_bytes(arrays: Sequence[np.ndarray], merged: np.ndarray) -> int:
    """Bytes of a merged array that no request has sent."""
    return merged.nbytes - sum(array.nbytes for array in arrays)


def merged_shape(arrays: Sequence[np.ndarray], run_size: int) -> tuple[int, ...]:
    """Of the array that `merge` fills: large enough for each of them in every dimension."""
    shapes = zip(*(array.shape[1:] for array in arrays), strict=True)
    return (run_size, *map(max, shapes))


def merge(arrays: Sequence[np.ndarray], merged: np.ndarray, rows: int, *, is_even: bool = False) -> None:
    """Put the `rows` of `arrays` one after another into `merged`; `is_even` where all are known to be of its shape.

    As batching_util.h: an array that is smaller is padded at the end of each dimension with its own first element, and
    what rows are left repeat the first row of the last array.
    """
    form = merged.shape[1:]
    if is_even or all(array.shape[1:] == form for array in arrays):
        np.concatenate(arrays, out=merged if rows == len(merged) else merged[:rows])
    else:
        start = 0
        for array in arrays:
            _pad(array, merged[start : start + len(array)])
            start += len(array)
    if rows < len(merged):
        merged[rows:] = merged[rows - len(arrays[-1])]


def _pad(array: np.ndarray, room: np.ndarray) -> None:
    filler = array[(0,) * array.ndim]
    inside = tuple(map(slice, array.shape))
    for axis in range(1, array.ndim):
        if array.shape[axis] < room.shape[axis]:
            beyond = (*inside[:axis], slice(array.shape[axis], None))
            room[beyond] = filler
    room[inside] = array


def has_rows(outputs: Sequence[np.ndarray], rows: int) -> bool:
    """Whether all outputs have so many."""
    return all(output.ndim > 0 and len(output) == rows for output in outputs)


def split(outputs: Sequence[np.ndarray], sizes: Sequence[int], rows: int) -> list[list[np.ndarray]]:
    """Views of each request's rows, of every output in order. Raises Unsplittable unless all outputs have `rows`."""
    for output in outputs:
        if output.ndim == 0:
            raise Unsplittable("Batched output tensor has 0 dimensions")
        if len(output) != rows:
            raise Unsplittable(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
                "tensors"
            )
    ends = list(accumulate(sizes))
    if len(outputs) == 1:  # mostly
        output = outputs[0]
        return [[output[end - size : end]] for size, end in zip(sizes, ends, strict=True)]
    return [[output[end - size : end] for output in outputs] for size, end in zip(sizes, ends, strict=True)]


def join(parts: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """The outputs of a request, from those of its pieces in order. Raises Unjoinable."""
    try:
        return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]
    except ValueError:
        raise Unjoinable("Tensor concat operation failed: outputs of one request have different shapes") from None


class Arena:
    """Aligned memory for the merged arrays of one batch after another."""

    __slots__ = ("_memory",)

    def __init__(self, nbytes: int) -> None:
        self._memory = np.empty(nbytes + _ALIGNMENT, np.uint8)

    @property
    def is_free(self) -> bool:
        """Nobody holds an array of it: neither an answer nor the framework, which may keep what it was fed."""
        return sys.getrefcount(self._memory) <= _REFERENCES_TO_FREE_MEMORY

    @property
    def nbytes(self) -> int:
        return self._memory.nbytes - _ALIGNMENT

    def arrays(self, forms: Sequence[tuple[tuple[int, ...], np.dtype]]) -> list[np.ndarray]:
        """Arrays of these shapes and dtypes, each on a boundary; their elements are whatever was there before."""
        position = -self._memory.ctypes.data % _ALIGNMENT
        made = []
        for shape, dtype in forms:
            nbytes = prod(shape) * dtype.itemsize
            made.append(self._memory[position : position + nbytes].view(dtype).reshape(shape))
            position += _aligned(nbytes)
        return made


_REFERENCES_TO_FREE_MEMORY = 2
"""The arena's own, and that of the call that counts them."""


class Arenas:
    """Memory for as many batches as run at once. Belongs to one queue; lives on the loop."""

    LEAST_BYTES = 64 << 10
    """Smaller arrays are quickly had, and copying them costs TensorFlow nothing."""
    MOST_BYTES = 256 << 20
    """Of a batch; the memory of larger ones goes back when they have run."""

    def __init__(self, count: int) -> None:
        """`count`: batches that run at once, and those that are getting ready meanwhile."""
        self._count = count
        self._arenas: list[Arena] = []

    def arrays(self, forms: Sequence[tuple[tuple[int, ...], np.dtype]]) -> list[np.ndarray]:
        """Arrays of these shapes and dtypes to merge into. They are their holder's for as long as he has them."""
        nbytes = sum(_aligned(prod(shape) * dtype.itemsize) for shape, dtype in forms)
        if nbytes < self.LEAST_BYTES or any(dtype.hasobject for _, dtype in forms):
            return [np.empty(shape, dtype) for shape, dtype in forms]
        return self._arena(nbytes).arrays(forms)

    def _arena(self, nbytes: int) -> Arena:
        free = [arena for arena in self._arenas if arena.is_free]
        for arena in free:
            if arena.nbytes >= nbytes:
                return arena
        made = Arena(nbytes)
        if nbytes <= self.MOST_BYTES:
            if free:
                self._arenas.remove(free[0])
            if len(self._arenas) < self._count:
                self._arenas.append(made)
        return made


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT
