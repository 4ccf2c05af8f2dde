"""What a run of a model is answered with, and from which size on reading and writing is no work for the loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

JSON = "application/json"
LARGE_BODY_BYTES = 64 << 10
"""Bodies from here on are not read on the loop, where everybody else would wait for them."""
LARGE_MIXED_BODY_BYTES = 8 << 10
"""Nor are those from here on that are more than numbers, of which each character may cost a microsecond."""
LARGE_OUTPUT_BYTES = 16 << 10
"""Nor are outputs from here on written there as JSON; digits take longer to make than to read."""


class Answer(NamedTuple):
    body: bytes
    version: int
    """That has answered."""
    content_type: str = JSON


def written_bytes(outputs: Mapping[str, np.ndarray]) -> int:
    """About what outputs come to, as far as writing them takes time."""
    return sum([_size_of_strings(array) if array.dtype == object else array.nbytes for array in outputs.values()])


def _size_of_strings(array: np.ndarray) -> int:
    if array.size > LARGE_OUTPUT_BYTES // 32:
        return 32 * array.size
    return sum(map(len, array.ravel().tolist()))
