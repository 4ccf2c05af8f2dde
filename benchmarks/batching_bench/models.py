"""Exports the models of `bench_batching.py` and writes the requests that its load generator sends."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyserving import protos
from pyserving.codec import tensor_proto

ROOT = Path(__file__).resolve().parents[2]
NAME = "m"
Inputs = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Model:
    base_path: Path
    signature: str
    inputs: tuple[Inputs, ...]
    """Different requests, which calls take in turn."""

    @property
    def version_folder(self) -> str:
        return str(self.base_path / "1")

    def request_file(self) -> Path:
        """gRPC messages one after another, each with its prefix."""
        file = self.base_path / f"{self.signature}.requests"
        file.write_bytes(b"".join(message(self.signature, inputs) for inputs in self.inputs))
        return file


def message(signature: str, inputs: Inputs) -> bytes:
    body = request(signature, inputs).SerializeToString()
    return b"\0" + len(body).to_bytes(4, "big") + body


def request(signature: str, inputs: Inputs) -> protos.PredictRequest:
    made = protos.PredictRequest()
    made.model_spec.name = NAME
    made.model_spec.signature_name = signature
    for alias, array in inputs.items():
        tensor_proto.encode_into(array, made.inputs[alias], as_content=False)
    return made


def half_plus_two(folder: Path) -> Model:
    from tests import models

    if not (folder / "1").exists():
        models.half_plus_two(folder / "1")
    random = np.random.default_rng(0)
    return Model(folder, "serving_default", tuple({"x": random.random((3, 1), np.float32)} for _ in range(16)))


def mobilenet(folder: Path) -> Model:
    """Keras's MobileNetV2 with its float input, random weights."""
    if not (folder / "1").exists():
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")
        import keras

        keras.utils.set_random_seed(0)
        keras.applications.MobileNetV2(weights=None).export(str(folder / "1"), verbose=False)
    random = np.random.default_rng(0)
    pictures = tuple({"keras_tensor": random.random((1, 224, 224, 3), np.float32)} for _ in range(4))
    return Model(folder, "serving_default", pictures)


def exported(folder: Path, name: str, signature: str, inputs: tuple[Inputs, ...]) -> Model:
    """One of `export_models.py`."""
    if not (folder / name / "1").exists():
        from benchmarks import export_models

        export_models.MODELS[name](str(folder))
    return Model(folder / name, signature, inputs)


def bert(folder: Path) -> Model:
    random = np.random.default_rng(0)

    def tokens() -> Inputs:
        return {
            "input_ids": random.integers(1, 30522, (1, 64)).astype(np.int32),
            "attention_mask": np.ones((1, 64), np.int32),
            "token_type_ids": np.zeros((1, 64), np.int32),
        }

    return exported(folder, "bert_base", "serving_default", tuple(tokens() for _ in range(4)))


def east(folder: Path) -> Model:
    """Pictures of three sizes."""
    random = np.random.default_rng(0)
    sizes = (64, 96, 128)
    pictures = tuple({"images": random.random((1, size, size, 3), np.float32) * 255} for size in sizes)
    return exported(folder, "east", "serving_default", pictures)


def antispam(folder: Path) -> Model:
    """Sequences of ten lengths."""
    random = np.random.default_rng(0)
    lengths = range(1, 11)
    sequences = tuple({"x": random.normal(size=(1, length, 200)).astype(np.float32)} for length in lengths)
    return exported(folder, "antispam_rnn", "serving_default", sequences)
