"""What was measured, and what follows from it: medians of rounds, gates, whether memory stayed flat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.grpc_load.workloads import MOST_IDLE_BYTES, PRODUCT, Cell, Gate, Measure

SOAK_SETTLING_SECONDS = 60.0
"""Memory may grow for as long."""
_FLAT_PART, _FLAT_BYTES = 0.01, 2 << 20
"""Growth below either of these is noise."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One server under one load in one round."""

    server: str
    cell: Cell
    round: int
    calls_per_second: float
    mean_us: float
    p50_us: float
    p99_us: float
    cpu_us_per_call: float
    """Processor time of the server's processes, user and system."""
    rss_bytes: int
    client_cores: float
    """Processor time of the load generator by wall time; near 1 it is the limit itself."""


@dataclass(frozen=True, slots=True)
class Soak:
    """A long run of one server."""

    server: str
    calls_per_second: float
    calls: int
    seconds: float
    rss: tuple[tuple[float, int], ...]
    """Seconds since the load began, bytes."""


@dataclass(frozen=True, slots=True)
class Idle:
    """What connections without calls cost a server."""

    server: str
    connections: int
    bytes_each: float


@dataclass(slots=True)
class Results:
    """All of one run; it grows as the run goes on."""

    samples: list[Sample] = field(default_factory=list)
    soaks: list[Soak] = field(default_factory=list)
    idles: list[Idle] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    """Wrong answers, counts that do not agree, servers that did not start. A good run has none."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a gate."""

    what: str
    against: str
    demand: str
    reached: str
    passed: bool | None
    """None when one of the two was not measured."""


def of(samples: Sequence[Sample], server: str, cell: Cell) -> dict[int, Sample]:
    """By round."""
    return {sample.round: sample for sample in samples if sample.server == server and sample.cell == cell}


def group(server: str) -> str:
    """Settings of one server are named `floor-inline`, `floor-pool`."""
    return server.partition("-")[0]


def fastest(samples: Sequence[Sample], wanted: str, cell: Cell) -> str | None:
    """The setting of `wanted` with the best median rate in this cell."""
    rates: dict[str, list[float]] = {}
    for sample in samples:
        if sample.cell == cell and group(sample.server) == wanted:
            rates.setdefault(sample.server, []).append(sample.calls_per_second)
    return max(rates, key=lambda server: median(rates[server]), default=None)


def compare(measure: Measure, ours: Sample, theirs: Sample) -> float:
    if measure is Measure.RATE_RATIO:
        return ours.calls_per_second / theirs.calls_per_second
    if measure is Measure.LATENCY_RATIO:
        return ours.mean_us / theirs.mean_us
    return (ours.mean_us - theirs.mean_us) / 1e3


def judge(gate: Gate, samples: Sequence[Sample]) -> Verdict:
    """The median of what each round gives; a round in which one of the two has failed does not count."""
    what = f"{gate.cell.name}: {gate.measure.value}"
    other = fastest(samples, gate.against, gate.cell)
    ours = of(samples, PRODUCT, gate.cell)
    theirs = of(samples, other, gate.cell) if other else {}
    values = [compare(gate.measure, ours[n], theirs[n]) for n in sorted(ours.keys() & theirs.keys())]
    if not values:
        return Verdict(what, gate.against, gate.demand, "not measured", None)
    middle = median(values)
    reached = f"{middle:.2f} ({min(values):.2f} to {max(values):.2f})"
    return Verdict(what, other or gate.against, gate.demand, reached, gate.is_reached(middle))


def growth(soak: Soak) -> tuple[int, int]:
    """Bytes by which memory grew once it had settled, and the most that counts as flat.

    Compares the median of the first third of what follows the settling with that of the last third. A short run, for a
    first look, settles for a third of its time.
    """
    settled_at = min(SOAK_SETTLING_SECONDS, soak.seconds / 3)
    settled = [size for at, size in soak.rss if at >= settled_at]
    third = max(1, len(settled) // 3)
    before, after = median(settled[:third]), median(settled[-third:])
    return int(after - before), int(max(_FLAT_PART * before, _FLAT_BYTES))


def judge_soak(soak: Soak) -> Verdict:
    grown, most = growth(soak)
    what = f"soak of {soak.seconds / 60:.1f} minutes: bytes by which RSS grew after it settled"
    return Verdict(what, "itself", f"≤ {most:,}", f"{grown:,}", grown <= most)


def judge_idle(idle: Idle) -> Verdict:
    what = f"{idle.connections:,} idle connections: bytes of RSS each"
    passed = idle.bytes_each < MOST_IDLE_BYTES
    return Verdict(what, "itself", f"< {MOST_IDLE_BYTES:,}", f"{idle.bytes_each:,.0f}", passed)
