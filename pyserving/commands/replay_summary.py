"""What a replay found, in two tables: how many answers were the same, and how long they took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pyserving.commands.replaying import Result
from pyserving.commands.table import table

_PERCENTILES = (50, 95, 99, 100)


@dataclass(slots=True)
class _Row:
    """The calls of one method to one model."""

    calls: int = 0
    different: int = 0
    failed: int = 0
    not_compared: int = 0
    micros: list[tuple[float, ...]] = field(default_factory=list)

    @property
    def counts(self) -> tuple[int, ...]:
        """As the table has them."""
        same = self.calls - self.different - self.failed - self.not_compared
        return self.calls, same, self.different, self.failed, self.not_compared


class Summary:
    """Adds results up."""

    def __init__(self) -> None:
        self._rows: defaultdict[tuple[str, str], _Row] = defaultdict(_Row)

    @property
    def num_calls(self) -> int:
        return sum(row.calls for row in self._rows.values())

    @property
    def num_bad(self) -> int:
        """Answers that are others, or did not come."""
        return sum(row.different + row.failed for row in self._rows.values())

    def add(self, result: Result) -> None:
        names = {spec.name for spec in result.call.model_specs}
        row = self._rows[", ".join(sorted(names)), result.call.api]
        row.calls += 1
        row.failed += bool(result.failure)
        row.different += bool(result.differences)
        row.not_compared += not result.is_compared
        row.micros.append(result.micros)

    def tables(self, targets: Sequence[str]) -> str:
        """For people. `targets` are the servers, in the order of each result's times."""
        rows = sorted(self._rows.items())
        counts = [(*key, *map(str, row.counts)) for key, row in rows]
        times = [
            (*key, target, *_milliseconds([micros[position] for micros in row.micros]))
            for key, row in rows
            for position, target in enumerate(targets)
        ]
        first = table(("model", "method", "calls", "same", "different", "failed", "not compared"), counts)
        second = table(("model", "method", "server", "p50 ms", "p95 ms", "p99 ms", "max ms"), times)
        return f"{first}\n\n{second}"


def _milliseconds(micros: Sequence[float]) -> list[str]:
    return [f"{value / 1000:.2f}" for value in np.percentile(micros, _PERCENTILES)]
