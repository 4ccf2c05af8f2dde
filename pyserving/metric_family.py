"""Counters, gauges and histograms by name and labels, and the page with them in TensorFlow Serving's text form."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

MAX_CELLS = 10_000
"""Label values come from clients too (the name of a model nobody has): what comes after that many shares one cell."""
OTHER = "(other)"
"""What every label of that shared cell says."""


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def increment(self, n: int = 1) -> None:
        self.value += n

    def samples(self, name: str, labels: str) -> Iterator[str]:
        yield f"{name}{{{labels}}} {self.value}"


class Gauge:
    """A number that goes up and down."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def set(self, value: int) -> None:
        self.value = value

    def increment(self, n: int = 1) -> None:
        self.value += n

    def decrement(self, n: int = 1) -> None:
        self.value -= n

    def samples(self, name: str, labels: str) -> Iterator[str]:
        yield f"{name}{{{labels}}} {self.value}"


class Histogram:
    """How values spread over buckets. A bucket holds the values strictly below its limit."""

    __slots__ = ("counts", "limits", "sum")

    def __init__(self, limits: Sequence[float]) -> None:
        self.limits = limits
        self.counts = [0] * (len(limits) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        # As TensorFlow's histograms, and unlike Prometheus's own: a value that equals a limit is in the next bucket.
        self.counts[bisect_right(self.limits, value)] += 1
        self.sum += value

    def add_many(self, value: float, count: int) -> None:
        """The same value, so many times."""
        self.counts[bisect_right(self.limits, value)] += count
        self.sum += value * count

    def merge(self, other: Histogram) -> None:
        """Add all that `other` holds, whose limits are the same."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def samples(self, name: str, labels: str) -> Iterator[str]:
        start = f'{name}_bucket{{{labels}{"," if labels else ""}le="'
        cumulative = 0
        for limit, count in zip(self.limits, self.counts, strict=False):
            cumulative += count
            yield f'{start}{limit:g}"}} {cumulative}'
        cumulative += self.counts[-1]
        yield f'{start}+Inf"}} {cumulative}'
        yield f"{name}_sum{{{labels}}} {self.sum:g}"
        yield f"{name}_count{{{labels}}} {cumulative}"


def exponential(scale: float, growth_factor: float, bucket_count: int) -> tuple[float, ...]:
    """The bucket limits `scale * growth_factor ** i`; the last bucket, without a limit, comes on top."""
    return tuple(scale * growth_factor**i for i in range(bucket_count))


_Cell = TypeVar("_Cell", bound="Counter | Gauge | Histogram")


class Family(Generic[_Cell]):
    """All the cells of one name, one for each combination of label values."""

    def __init__(
        self,
        name: str,
        kind: str,
        label_names: Sequence[str],
        new_cell: Callable[[], _Cell],
        *,
        is_shown_empty: bool = True,
    ) -> None:
        self.name = name
        """With slashes, as TensorFlow names its metrics inside."""
        self.label_names = tuple(label_names)
        self.kind = kind
        self._is_shown_empty = is_shown_empty
        self._new_cell = new_cell
        self._cells: dict[tuple[str, ...], _Cell] = {}

    def labels(self, *values: str) -> _Cell:
        """The cell for these label values, in the order in which the family declares the labels."""
        try:
            return self._cells[values]
        except KeyError:
            return self._add(values)

    def _add(self, values: tuple[str, ...]) -> _Cell:
        if len(values) != len(self.label_names):
            raise ValueError(f"{self.name} has the labels {self.label_names}; was given {values}")
        if len(self._cells) >= MAX_CELLS:
            values = (OTHER,) * len(values)
        return self._cells.setdefault(values, self._new_cell())

    def remove(self, *values: str) -> None:
        """Forget a cell whose subject is gone; unknown ones are forgotten already."""
        self._cells.pop(values, None)

    @property
    def first_cell(self) -> _Cell | None:
        """In the order of the page."""
        return self._cells[min(self._cells)] if self._cells else None

    def lines(self) -> Iterator[str]:
        """The family's part of the page: its TYPE line even without a cell, unless it is to appear with the first."""
        if not self._cells and not self._is_shown_empty:
            return
        name = _prometheus_name(self.name)
        label_names = [_prometheus_label(label) for label in self.label_names]
        yield f"# TYPE {name} {self.kind}"
        for values, cell in sorted(self._cells.items(), key=_values_of):
            pairs = zip(label_names, values, strict=True)
            yield from cell.samples(name, ",".join(f'{label}="{_escaped(value)}"' for label, value in pairs))


def _values_of(item: tuple[tuple[str, ...], object]) -> tuple[str, ...]:
    return item[0]


def _prometheus_name(slash_name: str) -> str:
    return _no_leading_digit(re.sub(r"[^A-Za-z0-9_]", ":", slash_name))


def _prometheus_label(name: str) -> str:
    return _no_leading_digit(re.sub(r"[^A-Za-z0-9]", "_", name))


def _no_leading_digit(name: str) -> str:
    return f"_{name}" if name[:1].isdigit() else name


def _escaped(label_value: str) -> str:
    # Unlike prometheus_exporter.cc, which leaves newlines: a client may put one in a model's name, and a bare one would
    # make the whole page unreadable to Prometheus.
    return label_value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def page(families: Iterable[Family[Any]]) -> str:
    """Families in the order of their slash names, in the text form of TensorFlow Serving's exporter: braces on every
    sample, six digits for limits and sums, no HELP lines."""
    in_order = sorted(families, key=lambda family: family.name)
    return "".join(f"{line}\n" for family in in_order for line in family.lines())
