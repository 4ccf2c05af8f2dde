"""Tables in Markdown of what `load_grpc.py` has measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from benchmarks.grpc_load import results, workloads
from benchmarks.grpc_load.results import Results, Sample, Verdict
from benchmarks.grpc_load.workloads import Cell

BUSY_CLIENT = 0.9
"""Cores; from here on the load generator may be what limits the rate."""
_MARKS = {True: "PASS", False: "FAIL", None: "–"}


def markdown(found: Results, machine: str, cores: int) -> str:
    parts = [f"{machine}. Everything, the clients too, ran on {cores} cores.", ""]
    parts += _gates(found, cores)
    for workload in dict.fromkeys(sample.cell.workload for sample in found.samples):
        parts += _workload([sample for sample in found.samples if sample.cell.workload == workload], workload, cores)
    parts += _soaks(found)
    parts += _idles(found)
    if found.troubles:
        parts += ["## What went wrong", "", *(f"- {trouble}" for trouble in found.troubles), ""]
    return "\n".join(parts)


def verdicts(found: Results) -> list[Verdict]:
    """Of every gate of a workload that was run."""
    run = {sample.cell.workload for sample in found.samples}
    judged = [results.judge(gate, found.samples) for gate in workloads.GATES if gate.cell.workload in run]
    judged += [results.judge_soak(soak) for soak in found.soaks if soak.server == workloads.PRODUCT]
    judged += [results.judge_idle(idle) for idle in found.idles if idle.server == workloads.PRODUCT]
    return judged


def _gates(found: Results, cores: int) -> list[str]:
    rows = [
        (verdict.what, verdict.against, verdict.demand, verdict.reached, _MARKS[verdict.passed])
        for verdict in verdicts(found)
    ]
    heads = ("gate", "against", "demanded", f"reached on {cores} cores (least to most of the rounds)", "")
    return ["## Gates", "", *_table(heads, rows), ""] if rows else []


def _workload(samples: Sequence[Sample], workload: str, cores: int) -> list[str]:
    lines = [f"## {workload}", ""]
    heads = (
        *("load", "server", "calls/s", "rounds", "mean ms", "p50 ms", "p99 ms"),
        *("server CPU µs/call", "RSS MB", "client cores"),
    )
    rows = []
    for cell in dict.fromkeys(sample.cell for sample in samples):
        for server in dict.fromkeys(sample.server for sample in samples):
            if mine := results.of(samples, server, cell):
                rows.append(_row(cell, server, list(mine.values())))
    return [*lines, *_table(heads, rows), "", f"Medians of the rounds, {cores} cores.", ""]


def _row(cell: Cell, server: str, rounds: Sequence[Sample]) -> tuple[str, ...]:
    rates = [sample.calls_per_second for sample in rounds]
    client = _middle(rounds, "client_cores")
    return (
        cell.name.partition(", ")[2],
        server,
        f"{median(rates):,.0f}",
        f"{min(rates):,.0f} to {max(rates):,.0f} ({len(rates)})",
        *(f"{_middle(rounds, name) / 1e3:.3f}" for name in ("mean_us", "p50_us", "p99_us")),
        f"{_middle(rounds, 'cpu_us_per_call'):,.1f}",
        f"{_middle(rounds, 'rss_bytes') / 1e6:,.0f}",
        f"{client:.2f}" + (" (busy)" if client >= BUSY_CLIENT else ""),
    )


def _middle(rounds: Sequence[Sample], name: str) -> float:
    return float(median(getattr(sample, name) for sample in rounds))


def _soaks(found: Results) -> list[str]:
    if not found.soaks:
        return []
    lines = ["## Soak", ""]
    for soak in found.soaks:
        samples = ", ".join(f"{size / 1e6:.1f}" for _, size in soak.rss)
        lines.append(
            f"{soak.server}: {soak.calls:,} calls in {soak.seconds / 60:.1f} minutes, {soak.calls_per_second:,.0f}/s, "
            f"over {workloads.SOAK_CONNECTIONS} connections with {workloads.SOAK_IN_FLIGHT} in flight on each. "
            f"RSS in MB, from {soak.rss[0][0]:.0f} s to {soak.rss[-1][0]:.0f} s: {samples}."
        )
    return [*lines, ""]


def _idles(found: Results) -> list[str]:
    if not found.idles:
        return []
    rows = [(idle.server, f"{idle.connections:,}", f"{idle.bytes_each:,.0f}") for idle in found.idles]
    return ["## Idle connections", "", *_table(("server", "connections", "bytes of RSS each"), rows), ""]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
