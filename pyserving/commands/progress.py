"""A line on the terminal that shows how far long work has come; none where standard error is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

_T = TypeVar("_T")

Advance = Callable[[float], None]
"""Told how much more is done."""


@contextmanager
def progress(what: str, total: float | None = None) -> Iterator[Advance]:
    """Shown while the context is open; of `total`, if it is known beforehand how much there is."""
    if not sys.stderr.isatty():
        yield _nothing
        return
    # A tenth of a second to import, for those alone who see it.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty())
    with bar:
        task = bar.add_task(what, total=total)
        yield lambda amount: bar.advance(task, amount)


def _nothing(amount: float) -> None:
    pass


def counted(items: Iterable[_T], what: str, total: int | None = None) -> Iterator[_T]:
    """The items, shown as they go by."""
    with progress(what, total) as advance:
        for item in items:
            yield item
            advance(1)
