"""Time a JSON predict request to arrays, and arrays to a JSON answer, beside what libraries do.

    python benchmarks/bench_json.py [--rounds 21]

Microseconds of processor time a call, medians of rounds in which the columns take turns. `bare` is simdjson's parse and
its conversion to a float32 array, with no question asked about the lists; `orjson` (if it is installed) and `json` go
through Python lists, and print numbers in digits of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from statistics import median
from time import thread_time

import numpy as np
import simdjson

from pyserving.codec.json.predict import Format, decode_predict, encode_predict, read_completely
from pyserving.signature import DataType, SignatureDef, TensorInfo

orjson = __import__("orjson") if find_spec("orjson") else None

ROUND_SECONDS = 0.004
COLUMNS = ("ours", "complete", "bare", "orjson", "json")
SIGNATURES = {"serving_default": SignatureDef({"x": TensorInfo("x:0", DataType.DT_FLOAT, None)}, {})}
IMAGE = (1, 224, 224, 3)


def medians(alternatives: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Microseconds of each, measured in turns."""
    numbers = {name: calls_in_a_round(function) for name, function in alternatives.items()}
    micros: dict[str, list[float]] = {name: [] for name in alternatives}
    for _ in range(rounds):
        for name, function in alternatives.items():
            micros[name].append(seconds(function, numbers[name]) / numbers[name] * 1e6)
    return {name: median(times) for name, times in micros.items()}


def calls_in_a_round(function: Callable[[], object]) -> int:
    function()  # the first call is another matter
    number = 1
    while seconds(function, number) < ROUND_SECONDS:
        number *= 2
    return number


def seconds(function: Callable[[], object], number: int) -> float:
    began = thread_time()
    for _ in range(number):
        function()
    return thread_time() - began


def read_bare(parser: simdjson.Parser, body: bytes) -> np.ndarray:
    root = parser.parse(body)
    assert isinstance(root, simdjson.Object)
    values = root["instances"]
    assert isinstance(values, simdjson.Array)
    return np.frombuffer(values.as_buffer(of_type="d"), np.float64).astype(np.float32)


def request_row(body: bytes, rounds: int) -> dict[str, float]:
    parser = simdjson.Parser()
    columns: dict[str, Callable[[], object]] = {
        "ours": lambda: decode_predict(body, lambda name: SIGNATURES),
        "bare": lambda: read_bare(parser, body),
        "json": lambda: np.array(json.loads(body)["instances"], np.float32),
    }
    if len(body) < 100_000:
        columns["complete"] = lambda: read_completely(body, lambda name: SIGNATURES)
    if orjson:
        columns["orjson"] = lambda: np.array(orjson.loads(body)["instances"], np.float32)
    return medians(columns, rounds)


def answer_row(array: np.ndarray, rounds: int) -> dict[str, float]:
    outputs = {"y": array}
    columns: dict[str, Callable[[], object]] = {
        "ours": lambda: encode_predict(outputs, Format.ROW),
        "json": lambda: json.dumps({"predictions": array.tolist()}).encode(),
    }
    if orjson:
        columns["orjson"] = lambda: orjson.dumps({"predictions": array.tolist()})
    return medians(columns, rounds)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--rounds", type=int, default=21)
    rounds = arguments.parse_args().rounds
    random = np.random.default_rng(0)
    print(f"| {'':8} | {'values':>24} | {' | '.join(f'{name:>8}' for name in COLUMNS)} |")
    print("|---|---:|" + "---:|" * len(COLUMNS))
    show("request", "3 float32", request_row(b'{"instances": [1.0, 2.0, 5.0]}', rounds))
    for shape in ((1000,), IMAGE):
        array = random.random(shape, np.float32)
        body = json.dumps({"instances": array.tolist()}, separators=(",", ":"))
        show("request", values(array), request_row(body.encode(), rounds))
        pixels = (array * 255).astype(np.uint8)
        show("request", values(pixels), request_row(json.dumps({"instances": pixels.tolist()}).encode(), rounds))
    show("answer", "3 float32", answer_row(np.float32([2.5, 3.0, 4.5]), rounds))
    for array in answers(random):
        show("answer", values(array), answer_row(array, rounds))
    print(
        f"\n{platform.processor() or platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}, "
        f"NumPy {np.__version__}"
    )


def answers(random: np.random.Generator) -> list[np.ndarray]:
    normal = random.normal(size=90_000)
    return [
        normal[:1000].astype(np.float32),
        normal.reshape(300, 300).astype(np.float32),
        random.lognormal(-8, 4, (300, 300)).astype(np.float32),
        normal.reshape(300, 300),
        (1000 * normal).reshape(300, 300).astype(np.int64),
    ]


def values(array: np.ndarray) -> str:
    return f"{'x'.join(map(str, array.shape))} {array.dtype}"


def show(what: str, kind: str, micros: Mapping[str, float]) -> None:
    cells = " | ".join(f"{micros[name]:8.1f}" if name in micros else " " * 8 for name in COLUMNS)
    print(f"| {what:8} | {kind:>24} | {cells} |")


if __name__ == "__main__":
    main()
