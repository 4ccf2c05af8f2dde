"""The models of `load_grpc.py`: exports them, writes requests for them and what the answers must hold.

    python -m benchmarks.grpc_load.models FOLDER half_plus_two image mobilenet_v2

Run apart, because it imports TensorFlow. The last line on stdout is a JSON object of `Model` fields for each name.
Inputs come from a fixed seed; what the answers must hold comes from NumPy where it can, and else from TensorFlow.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pyserving import protos
from pyserving.codec import tensor_proto

MODEL_NAME = "m"
ENCODINGS = ("tensor_content", "float_val")


@dataclass(frozen=True, slots=True)
class Model:
    """A model on disk and files with requests for it."""

    base_path: str
    version_folder: str
    signature: str
    input: str
    output: str
    input_tensor: str
    output_tensor: str
    requests: dict[str, str]
    """By encoding: a file of gRPC messages, each with its prefix."""
    inputs: str
    """A .npy file: the input of every request."""
    expected: str
    """A .npy file: the output that every request must get."""


def half_plus_two(folder: Path) -> None:
    from tests import models

    models.half_plus_two(folder / "1")


def image(folder: Path) -> None:
    """The mean of a picture: 602 KB in, four bytes out, and hardly any work."""
    import tensorflow as tf

    class Mean(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 224, 224, 3], tf.float32, name="x")])
        def __call__(self, x):
            return {"y": tf.reduce_mean(x, axis=[1, 2, 3])}

    model = Mean()
    tf.saved_model.save(model, str(folder / "1"), signatures={"serving_default": model.__call__})


def mobilenet_v2(folder: Path) -> None:
    from benchmarks import export_models

    export_models.mobilenet_v2(str(folder.parent))


@dataclass(frozen=True, slots=True)
class Kind:
    export: Callable[[Path], None]
    shape: tuple[int, ...]
    requests: int
    """How many different ones calls take in turn."""
    compute: Callable[[np.ndarray], np.ndarray] | None
    """What the model does, in NumPy."""
    signature: str = "serving_default"


KINDS = {
    "half_plus_two": Kind(half_plus_two, (3, 1), 16, lambda x: x / 2 + 2),
    "image": Kind(image, (1, 224, 224, 3), 4, lambda x: x.mean(axis=(1, 2, 3), dtype=np.float64).astype(np.float32)),
    "mobilenet_v2": Kind(mobilenet_v2, (1, 224, 224, 3), 4, None, signature="predict_images"),
}


def main() -> None:
    folder = Path(sys.argv[1])
    print(json.dumps({name: asdict(prepare(folder, name)) for name in sys.argv[2:]}))


def prepare(folder: Path, name: str) -> Model:
    """Exports what is not there yet; writes the rest anew."""
    from pyserving.executors import tf_session

    kind, base_path = KINDS[name], folder / name
    version_folder = base_path / "1"
    if not (version_folder / "saved_model.pb").exists():
        kind.export(base_path)
    executor = tf_session.open_saved_model(str(version_folder))
    definition = executor.signature_defs[kind.signature]
    ((input_name, fed),) = definition.inputs.items()
    ((output_name, fetched),) = definition.outputs.items()
    inputs = np.random.default_rng(0).random((kind.requests, *kind.shape), np.float32)
    run = executor.plan((fed.name,), (fetched.name,)).ways[0].run
    compute = kind.compute or (lambda x: run(x)[0])
    expected = np.stack([compute(x) for x in inputs])

    files = {encoding: base_path / f"{encoding}.requests" for encoding in ENCODINGS}
    for encoding, file in files.items():
        file.write_bytes(b"".join(message(kind.signature, input_name, x, encoding) for x in inputs))
    np.save(base_path / "inputs.npy", inputs)
    np.save(base_path / "expected.npy", expected)
    return Model(
        str(base_path),
        str(version_folder),
        kind.signature,
        input_name,
        output_name,
        fed.name,
        fetched.name,
        {encoding: str(file) for encoding, file in files.items()},
        str(base_path / "inputs.npy"),
        str(base_path / "expected.npy"),
    )


def message(signature: str, input_name: str, array: np.ndarray, encoding: str) -> bytes:
    request = protos.PredictRequest()
    request.model_spec.name = MODEL_NAME
    request.model_spec.signature_name = signature
    tensor_proto.encode_into(array, request.inputs[input_name], as_content=encoding == "tensor_content")
    body = request.SerializeToString()
    return b"\0" + len(body).to_bytes(4, "big") + body


if __name__ == "__main__":
    main()
