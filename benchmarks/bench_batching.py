"""Batching against no batching, against a bare loop, and under more load than can be served; with gates.

    python benchmarks/bench_batching.py [--only small,models,shapes,deadlines,overload] [--rounds 5] [--seconds 2]

Servers of this project answer over HTTP/2 on this machine, with and without --enable_batching; in each round every one
of them is loaded in turn by the generator of `benchmarks/generator`, which a C++ compiler builds at the first run.
Figures are medians over rounds, ratios those of one round. The last column says whether a gate holds; if one does not,
the exit status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.batching_bench import models, overload, served  # noqa: E402
from benchmarks.grpc_load.preparation import built  # noqa: E402
from pyserving.executors.executor import open_executor  # noqa: E402
from pyserving.machine import schedulable_cpus  # noqa: E402

FOLDER = Path(tempfile.gettempdir(), "pyserving-batching-models")


class Report:
    """A line for each figure, and whether its gate holds."""

    def __init__(self) -> None:
        self.failed = 0

    def figure(self, what: str, figure: str) -> None:
        print(f"{what:64} {figure:>16}", flush=True)

    def gate(self, what: str, value: float, *, least: float | None = None, most: float | None = None) -> None:
        holds = (least is None or value >= least) and (most is None or value <= most)
        self.failed += not holds
        wanted = f">= {least:g}" if least is not None else f"<= {most:g}"
        print(f"{what:64} {value:16.3f}  {wanted:>8}  {'holds' if holds else 'FAILS'}", flush=True)


def small(report: Report, options: argparse.Namespace) -> None:
    model = models.half_plus_two(FOLDER / "half_plus_two")
    loads = ((1, 1), (32, 1), (256, 1), (256, 64))
    found = served.on_and_off(model, built("generator"), loads, options.rounds, options.seconds)
    for (in_flight, connections), figures in found.items():
        name = f"half_plus_two, {in_flight} in flight on {connections}"
        report.figure(f"{name}: calls/s without", f"{figures['rate off']:.0f}")
        report.figure(f"{name}: calls/s with", f"{figures['rate on']:.0f}")
        if in_flight == 1:
            report.gate(f"{name}: mean latency, times that without", figures["mean"], most=1.1)
        else:
            report.gate(f"{name}: calls/s, times those without", figures["rate"], least=1.15)
            report.gate(f"{name}: p50, times that without", figures["p50"], most=1.0)


def compute(report: Report, options: argparse.Namespace) -> None:
    for name, model in (("MobileNetV2", models.mobilenet(FOLDER / "mobilenet")), ("BERT", models.bert(FOLDER))):
        found = served.against_bare(model, built("generator"), options.rounds, options.seconds)
        for size, rate in found["bare"].items():
            report.figure(f"{name}, bare loop of two threads, {size} rows: rows/s", f"{rate:.1f}")
        report.figure(f"{name}, served, 16 in flight: rows/s", f"{found['served']:.1f}")
        report.gate(f"{name}: served, times the best of the grid", found["ratio"], least=0.95)


def shapes(report: Report, options: argparse.Namespace) -> None:
    for name, model in (("EAST, three sizes", models.east(FOLDER)), ("RNN, ten lengths", models.antispam(FOLDER))):
        found = served.mixed_shapes(model, built("generator"))
        report.figure(f"{name}, 8 threads: calls", str(found["calls"]))
        report.gate(f"{name}: errors", found["errors"], most=0)
        report.gate(f"{name}: answers that differ from one by one", found["different"], most=0)


def deadlines(report: Report, options: argparse.Namespace) -> None:
    found = asyncio.run(overload.behind_a_long_batch())
    report.gate("100 of 50 ms behind a run of 500 ms: rows that ran", found["run"], most=0)
    report.gate("... statuses other than DEADLINE_EXCEEDED", found["others"], most=0)
    report.gate("... milliseconds to the last answer", 1000 * found["last"], most=60)


def beyond(report: Report, options: argparse.Namespace) -> None:
    model = models.mobilenet(FOLDER / "mobilenet")
    executor = open_executor("tensorflow", model.version_folder)
    definition = executor.signature_defs[model.signature]
    tensors = (
        tuple(info.name for info in definition.inputs.values()),
        tuple(info.name for info in definition.outputs.values()),
    )
    inputs = list(model.inputs[0].values())
    found = asyncio.run(overload.overload(executor, tensors, inputs, options.overload_seconds))
    report.figure("MobileNetV2: p50 without load, ms", f"{1000 * found['usual']:.1f}")
    report.figure("MobileNetV2: capacity, answers/s", f"{found['capacity']:.1f}")
    report.gate(
        "twice of that: answers in time (5 x p50), part of capacity", found["in time"] / found["capacity"], least=0.8
    )
    report.gate("... megabytes grown", found["grown"], most=512)
    report.gate("... seconds until it is as before", found["recovery"], most=2)


PARTS: dict[str, Callable[[Report, argparse.Namespace], None]] = {
    "small": small,
    "models": compute,
    "shapes": shapes,
    "deadlines": deadlines,
    "overload": beyond,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run, with commas between")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a load in a round")
    parser.add_argument("--overload-seconds", type=float, default=60.0)
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    report = Report()
    for part in options.only.split(","):
        PARTS[part](report, options)
    print(f"on {schedulable_cpus()} cores")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
