"""A model's prepared run in a loop of threads, without any server: what a server of it cannot beat.

    python -m benchmarks.grpc_load.bare VERSION_FOLDER INPUT_TENSOR OUTPUT_TENSOR INPUTS.npy caller|pool

The run is the one that the server makes of the model. Says `ready`, or `absent` for a way that the server does not go
with a graph of that size; then each line on stdin, `THREADS WARMUP_SECONDS SECONDS`, is answered by a line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from threading import Thread

import numpy as np

from pyserving.executors import tf_session
from pyserving.executors.executor import Way


def main() -> None:
    version_folder, fed, fetched, inputs_file, way_name = sys.argv[1:]
    executor = tf_session.open_saved_model(version_folder)
    ways = {way.name: way for way in executor.plan((fed,), (fetched,)).ways}
    if way_name not in ways:
        print("absent", flush=True)
        return
    inputs = [aligned(array) for array in np.load(inputs_file)]
    print("ready", flush=True)
    for line in sys.stdin:
        threads, warmup, seconds = line.split()
        print(json.dumps(measure(ways[way_name], inputs, int(threads), float(warmup), float(seconds))), flush=True)


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy where TensorFlow takes it without one of its own."""
    room = np.empty(array.nbytes + 64, np.uint8)
    begin = -room.ctypes.data % 64
    copy = room[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def measure(way: Way, inputs: list[np.ndarray], threads: int, warmup: float, seconds: float) -> dict[str, float]:
    """Counts the runs that end within `seconds` after the warm-up."""
    began = time.perf_counter()
    first, last = began + warmup, began + warmup + seconds
    times: list[list[float]] = [[] for _ in range(threads)]
    all_runs = [0] * threads

    def loop(thread: int) -> None:
        before = time.perf_counter()
        while before < last:
            way.run(inputs[all_runs[thread] % len(inputs)])
            after = time.perf_counter()
            all_runs[thread] += 1
            if first <= after < last:
                times[thread].append(after - before)
            before = after

    running = [Thread(target=loop, args=(n,)) for n in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    micros = 1e6 * np.concatenate([np.array(part) for part in times])
    return {
        "calls": sum(all_runs),
        "calls_per_second": len(micros) / seconds,
        "mean_us": float(micros.mean()),
        "p50_us": float(np.percentile(micros, 50)),
        "p99_us": float(np.percentile(micros, 99)),
    }


if __name__ == "__main__":
    main()
