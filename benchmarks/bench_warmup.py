"""Milliseconds of a version's first requests, with and without warm-up records.

    python benchmarks/bench_warmup.py [VERSION_FOLDER] [--runs N] [--records N ...]

Without a folder it exports a small MobileNetV2. Each run is a process of its own: it loads the version, sends the same
request six times through Servable and DirectSession, and does so once more with the version that takes over from it.
String inputs get a picture of noise, others zeros; the records hold the request itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pyserving import protos
from pyserving.codec.tensor_proto import encode_into
from pyserving.executors.executor import Executor, open_executor
from pyserving.loader import ServableLoader
from pyserving.servable import Servable
from pyserving.session import DirectSession
from pyserving.signature import DEFAULT_SIGNATURE_NAME, DataType, SignatureDef
from pyserving.types import AspiredVersion, ServableId
from pyserving.warmup import Warmup, WarmupReport
from pyserving.workers import Workers

REQUESTS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="a SavedModel with a serving_default signature")
    parser.add_argument("--runs", type=int, default=5, help="for each number of records")
    parser.add_argument("--records", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--once", action="store_true", help="one run, in this process, as JSON")
    options = parser.parse_args()
    if options.once:
        print(json.dumps(asyncio.run(one_run(options.folder, options.records[0]))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        report(options.folder or exported(temporary), options.records, options.runs)


def exported(folder: str) -> str:
    script = Path(__file__).with_name("export_models.py")
    subprocess.run([sys.executable, script, "--small", folder, "mobilenet_v2"], check=True, capture_output=True)
    return f"{folder}/mobilenet_v2/1"


def report(folder: str, counts: list[int], runs: int) -> None:
    made = {count: [run_in_a_process(folder, count) for _ in range(runs)] for count in counts}
    print(f"{'version':<8}{'records':>8}" + "".join(f"{f'request {number}':>12}" for number in range(1, REQUESTS + 1)))
    for number, version in enumerate(("first", "second")):
        for count in counts:
            columns = zip(*(run[number] for run in made[count]), strict=True)
            print(f"{version:<8}{count:>8}" + "".join(f"{median(column):>12.1f}" for column in columns))
    print(f"medians of {runs} runs; {os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}")


def run_in_a_process(folder: str, records: int) -> list[list[float]]:
    command = [sys.executable, __file__, folder, "--once", "--records", str(records)]
    times: list[list[float]] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return times


async def one_run(folder: str, records: int) -> list[list[float]]:
    """Milliseconds of the first requests to each of two versions."""
    async with Workers("load", 1) as loading, Workers("run", 4) as running:
        return [await first_requests(folder, records, loading, running) for _ in range(2)]


async def first_requests(folder: str, records: int, loading: Workers, running: Workers) -> list[float]:
    def make(path: str, servable_id: ServableId, executor: Executor) -> Servable:
        return Servable(servable_id, executor, DirectSession(executor, running))

    def warm_up(path: str, servable: Servable, report: WarmupReport) -> None:
        log = prediction_log(inputs_of(servable.signature_defs[DEFAULT_SIGNATURE_NAME]))
        Warmup(read_records=lambda file: iter([log] * records))(path, servable, report)

    version = AspiredVersion(ServableId("m", 1), folder)
    loader = ServableLoader(version, lambda path: open_executor("tensorflow", path), make, warm_up)
    servable = await loading.submit(loader.load)
    inputs = inputs_of(servable.signature_defs[DEFAULT_SIGNATURE_NAME])
    times = []
    for _ in range(REQUESTS):
        began = perf_counter()
        await servable.predict(None, "", inputs, (), None)
        times.append((perf_counter() - began) * 1e3)
    await loading.submit(loader.unload)
    return times


def inputs_of(signature: SignatureDef) -> dict[str, np.ndarray]:
    """One row for each input."""
    return {
        alias: np.array([picture()], object)
        if info.dtype is DataType.DT_STRING
        else np.zeros([abs(size) for size in info.shape or ()], info.dtype.numpy)
        for alias, info in signature.inputs.items()
    }


def picture(side: int = 224) -> bytes:
    """A PNG of noise; TensorFlow, which could write one, is not to be warmed up by it."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side * 3), np.uint8)
    rows = np.insert(pixels, 0, 0, axis=1).tobytes()  # each with its filter, none
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def prediction_log(inputs: dict[str, np.ndarray]) -> bytes:
    log = protos.PredictionLog()
    for alias, array in inputs.items():
        encode_into(array, log.predict_log.request.inputs[alias])
    return log.SerializeToString()


if __name__ == "__main__":
    main()
