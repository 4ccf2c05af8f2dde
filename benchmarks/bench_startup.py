"""Time from exec to the first answer of a server, and where it goes.

    python benchmarks/bench_startup.py [--runs 5] [--model_base_path /abs/path --model_name m]

Starts the real command on a UNIX socket, follows its log and asks Predict twice. Without a model of yours it
exports a tiny one (y = x / 2 + 2). Medians of the runs; the first one, which fills the disk cache, is not counted.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import grpc
import numpy as np

from pyserving import protos
from pyserving.codec.tensor_proto import encode_into

ROOT = Path(__file__).parents[1]
STAGES = (
    ("process up, HTTP and scan", "Loading servable version"),
    ("framework imported", "Imported tensorflow's framework"),
    ("model loaded", "Successfully loaded servable version"),
    ("gRPC open", "Running gRPC ModelServer at"),
)


def export(path: Path) -> None:
    """y = x / 2 + 2, in a process of its own so that this one stays light."""
    code = f"from pathlib import Path; from tests import models; models.half_plus_two(Path({str(path)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


def request(model_name: str) -> protos.PredictRequest:
    made = protos.PredictRequest()
    made.model_spec.name = model_name
    encode_into(np.ones(1, np.float32), made.inputs["x"])
    return made


def measure(model_name: str, base_path: str, with_predict: bool) -> dict[str, float]:
    """Milliseconds since exec at which each stage was reached."""
    folder = tempfile.mkdtemp(prefix="pys")
    flags = [
        f"--grpc_socket_path={folder}/s",
        "--port=0",
        f"--model_name={model_name}",
        f"--model_base_path={base_path}",
    ]
    began = perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "pyserving", *flags],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "PYTHONUNBUFFERED": "1"},
    )
    assert server.stderr is not None
    reached: dict[str, float] = {}
    try:
        waited = list(STAGES)
        for line in server.stderr:
            while waited and waited[0][1] in line:
                reached[waited.pop(0)[0]] = (perf_counter() - began) * 1e3
            if not waited:
                break
        if with_predict:
            with grpc.insecure_channel(f"unix:{folder}/s") as channel:
                predict = channel.unary_unary(
                    "/tensorflow.serving.PredictionService/Predict",
                    protos.PredictRequest.SerializeToString,
                    protos.PredictResponse.FromString,
                )
                for name in ("first answer", "second answer"):
                    predict(request(model_name), timeout=60, wait_for_ready=True)
                    reached[name] = (perf_counter() - began) * 1e3
    finally:
        server.terminate()
        server.communicate()
        shutil.rmtree(folder)
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model_name", default="m")
    parser.add_argument("--model_base_path", help="of a model of yours; it is loaded and not asked")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        base_path = arguments.model_base_path
        if base_path is None:
            base_path = f"{made}/m"
            export(Path(base_path) / "1")
        runs = [
            measure(arguments.model_name, base_path, arguments.model_base_path is None)
            for _ in range(arguments.runs + 1)
        ][1:]
    print(f"{'stage':<28} {'at ms':>8} {'takes ms':>9}   (median of {arguments.runs})")
    before = 0.0
    for stage in runs[0]:
        at = statistics.median(run[stage] for run in runs)
        print(f"{stage:<28} {at:>8.0f} {at - before:>9.0f}")
        before = at
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}")


if __name__ == "__main__":
    main()
