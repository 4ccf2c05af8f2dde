"""What a replay found, in two tables or as values: how many answers were the same, and how long they took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pyserving.commands.latencies import percentile_names, percentiles
from pyserving.commands.replaying import Result
from pyserving.commands.table import table

_PERCENTS = (50, 95, 99, 100)
_COUNTS = ("calls", "same", "different", "failed", "not compared")


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

    def milliseconds(self, position: int) -> list[float]:
        """Percentiles of the times of one server."""
        return percentiles([micros[position] / 1000 for micros in self.micros], _PERCENTS)


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

    @property
    def num_compared(self) -> int:
        """Calls of which it is known whether the answer is the same, or that failed."""
        return self.num_calls - sum(row.not_compared for row in self._rows.values())

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
            (*key, target, *(f"{value:.2f}" for value in row.milliseconds(position)))
            for key, row in rows
            for position, target in enumerate(targets)
        ]
        first = table(("model", "method", *_COUNTS), counts)
        second = table(("model", "method", "server", *(f"{name} ms" for name in percentile_names(_PERCENTS))), times)
        return f"{first}\n\n{second}"

    def values(self, targets: Sequence[str]) -> list[dict[str, Any]]:
        """The same for scripts, one entry for each method of a model."""
        names = [f"{name}_ms" for name in percentile_names(_PERCENTS)]
        return [
            {
                "model": model,
                "method": method,
                **dict(zip((name.replace(" ", "_") for name in _COUNTS), row.counts, strict=True)),
                "servers": [
                    {"server": target, **dict(zip(names, row.milliseconds(position), strict=True))}
                    for position, target in enumerate(targets)
                ],
            }
            for (model, method), row in sorted(self._rows.items())
        ]
