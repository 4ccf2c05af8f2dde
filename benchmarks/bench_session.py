"""Microseconds a call of the ways to run a model, bare and through DirectSession.

    python benchmarks/bench_session.py [VERSION_FOLDER] [--rows N]

Without a folder it exports half_plus_two. Each figure is the median of five rounds; inputs are zeros or empty strings.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pyserving.executors.executor import CALLER, Executor, Plan, open_executor
from pyserving.executors.intra_op import keep_ops_in_this_thread
from pyserving.session import DirectSession
from pyserving.signature import DEFAULT_SIGNATURE_NAME, SignatureDef
from pyserving.workers import Workers
from tests import models

ROUNDS = 5
ROUND_SECONDS = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="a SavedModel with a serving_default signature")
    parser.add_argument("--rows", type=int, default=1, help="size of open dimensions")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if options.folder is None:
            models.half_plus_two(Path(temporary, "1"))
        executor = open_executor("tensorflow", options.folder or str(Path(temporary, "1")))
    signature = executor.signature_defs[DEFAULT_SIGNATURE_NAME]
    arrays = [np.zeros(shape(info.shape, options.rows), info.dtype.numpy) for info in signature.inputs.values()]
    for array in arrays:
        if array.dtype == object:
            array.fill(b"")
    asyncio.run(measure(executor, signature, arrays))


def shape(declared: tuple[int, ...] | None, rows: int) -> list[int]:
    return [rows if size == -1 else size for size in declared or ()]


async def measure(executor: Executor, signature: SignatureDef, arrays: list[np.ndarray]) -> None:
    feeds = tuple(info.name for info in signature.inputs.values())
    fetches = tuple(info.name for info in signature.outputs.values())
    async with Workers("run", 4) as workers:
        session = DirectSession(executor, workers)
        plan = session.plan(feeds, fetches)
        loop = asyncio.get_running_loop()
        far = loop.time() + 3600
        report_bare(plan.plan, arrays)
        report_undivided(plan.plan, arrays)
        for label, calls in (("1 caller", 1), ("64 callers", 64)):
            await report(f"DirectSession, {label}", lambda: session.run(plan, arrays), calls)
            await report(f"DirectSession, {label}, a deadline", lambda: session.run(plan, arrays, None, far), calls)
        print(f"kept: {dict(plan.choices)}")


def report_bare(plan: Plan, arrays: list[np.ndarray]) -> None:
    for way in plan.ways:
        show(f"{way.name}, bare", [bare_round(lambda run=way.run: run(*arrays)) for _ in range(ROUNDS + 1)])


def report_undivided(plan: Plan, arrays: list[np.ndarray]) -> None:
    """What it saves that the event loop's thread does not divide ops among TensorFlow's: the rounds take turns."""
    caller = next((way for way in plan.ways if way.name == CALLER), None)
    if caller is None:
        return
    with ThreadPoolExecutor(1) as divided, ThreadPoolExecutor(1) as kept:
        kept.submit(keep_ops_in_this_thread).result()
        rounds = [
            [thread.submit(bare_round, lambda: caller.run(*arrays)).result() for thread in (divided, kept)]
            for _ in range(ROUNDS + 1)
        ]
    show("caller, in a thread of its own", [round_[0] for round_ in rounds])
    show("caller, in one that keeps its ops", [round_[1] for round_ in rounds])


def bare_round(call: Callable[[], object]) -> float:
    calls, began = 0, perf_counter()
    while perf_counter() - began < ROUND_SECONDS:
        for _ in range(10):
            call()
        calls += 10
    return (perf_counter() - began) / calls


async def report(label: str, call: Callable[[], Coroutine[Any, Any, object]], callers: int) -> None:
    show(label, [await awaited_round(call, callers) for _ in range(ROUNDS + 1)])


async def awaited_round(call: Callable[[], Coroutine[Any, Any, object]], callers: int) -> float:
    began = perf_counter()

    async def caller() -> int:
        calls = 0
        while perf_counter() - began < ROUND_SECONDS:
            await call()
            calls += 1
        return calls

    calls = await asyncio.gather(*(caller() for _ in range(callers)))
    return (perf_counter() - began) / sum(calls)


def show(label: str, seconds: list[float]) -> None:
    """The first round warms up."""
    print(f"{label:40} {median(seconds[1:]) * 1e6:10.1f} µs")


if __name__ == "__main__":
    main()
