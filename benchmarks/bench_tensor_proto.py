"""Time the TensorProto codec on shapes from a single number to a picture, beside a list of Python numbers.

    python benchmarks/bench_tensor_proto.py

Microseconds, the best of five runs; `as list` is what encode_into and decode would cost through tolist().
"""

from __future__ import annotations

from collections.abc import Callable
from timeit import Timer

import numpy as np

from pyserving import protos
from pyserving.codec.tensor_proto import decode, encode_into


def micros(function: Callable[[], object]) -> float:
    timer = Timer(function)
    number = max(1, timer.autorange()[0] // 5)
    return min(timer.repeat(5, number)) / number * 1e6


def encoded(array: np.ndarray, as_content: bool = False) -> protos.TensorProto:
    tensor = protos.TensorProto()
    encode_into(array, tensor, as_content=as_content)
    return tensor


def encoded_as_list(array: np.ndarray) -> protos.TensorProto:
    tensor = protos.TensorProto(dtype=1, tensor_shape={"dim": [{"size": size} for size in array.shape]})
    tensor.float_val.extend(array.ravel().tolist())
    return tensor


def decoded_as_list(tensor: protos.TensorProto) -> np.ndarray:
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    return np.array(list(tensor.float_val), np.float32).reshape(shape)


def main() -> None:
    print(f"{'float32':>16} {'':10} {'encode':>10} {'content':>10} {'as list':>10} {'decode':>10} {'as list':>10}")
    for shape in ((), (1, 10), (64, 10), (1, 224, 224, 3)):
        array = np.random.default_rng(0).random(shape, np.float32)
        typed, content = encoded(array), encoded(array, as_content=True)
        columns = [
            lambda array=array: encoded(array),
            lambda array=array: encoded(array, as_content=True),
            lambda array=array: encoded_as_list(array),
            lambda typed=typed: decode(typed),
            lambda typed=typed: decoded_as_list(typed),
        ]
        times = " ".join(f"{micros(column):10.1f}" for column in columns)
        print(f"{shape!s:>16} {'typed':10} {times}")
        print(f"{'':16} {'content':10} {'':32} {micros(lambda content=content: decode(content)):10.1f}")


if __name__ == "__main__":
    main()
