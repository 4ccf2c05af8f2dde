"""Percentiles of how long calls took, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def percentile_names(percents: Sequence[int]) -> list[str]:
    """`p50`, `p99`; `max` for the hundredth."""
    return ["max" if percent == 100 else f"p{percent}" for percent in percents]


def percentiles(values: Sequence[float], percents: Sequence[int]) -> list[float]:
    """In the unit of `values`, of which there is at least one, to the microsecond where that is milliseconds."""
    return [round(float(value), 3) for value in np.percentile(values, percents)]
