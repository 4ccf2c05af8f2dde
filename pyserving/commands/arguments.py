"""Kinds of arguments that several commands take."""

from __future__ import annotations

import argparse
import math


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def positive_number(text: str) -> float:
    if not 0 < (number := float(text)) < math.inf:
        raise argparse.ArgumentTypeError("must be more than 0")
    return number
