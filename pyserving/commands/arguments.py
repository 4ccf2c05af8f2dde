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


def number_from_zero(text: str) -> float:
    if not 0 <= (number := float(text)) < math.inf:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return number


def version_number(text: str) -> int:
    """A version's number: 64 bits have room for it."""
    if not 0 <= (number := int(text)) < 1 << 63:
        raise argparse.ArgumentTypeError("must be from 0 to 9223372036854775807")
    return number
