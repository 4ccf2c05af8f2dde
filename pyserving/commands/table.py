"""What commands print: tables that people read, and the same in JSON for scripts."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they must be; those that hold numbers alone are ranged right."""
    columns = list(zip(head, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    ranges = [">" if rows and all(_is_number(cell) for cell in column[1:]) else "<" for column in columns]
    return "\n".join(
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(line, ranges, widths, strict=True)).rstrip()
        for line in [head, *rows]
    )


def _is_number(cell: str) -> bool:
    return not cell.strip("0123456789.,-")


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """`--json`, for a command that prints a table."""
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts, in place of tables")


def as_json(value: Any) -> str:
    return json.dumps(value, indent=2)
