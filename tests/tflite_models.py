"""Tiny TensorFlow Lite models for tests: each function exports one version folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyserving import protos


def half_plus_two_lite(path: Path) -> None:
    """x of [rows, 3] -> x / 2 + 2, and the sum of each row; the converter writes signatures of its own kind only.

    Its tensors are `serving_default_x:0`, and `StatefulPartitionedCall:1` and `:0` in this order.
    """
    import tensorflow as tf

    class HalfPlusTwo(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.two = tf.Variable(2.0)

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
        def __call__(self, x):
            return {"y": x / 2 + self.two, "sum": tf.reduce_sum(x, axis=1)}

    _convert(path, HalfPlusTwo())


def pair_lite(path: Path) -> None:
    """a and b of [rows] -> a + b."""
    import tensorflow as tf

    class Pair(tf.Module):
        specs = (tf.TensorSpec([None], tf.float32, name="a"), tf.TensorSpec([None], tf.float32, name="b"))

        @tf.function(input_signature=specs)
        def __call__(self, a, b):
            return {"sum": a + b}

    _convert(path, Pair())


def convolution_lite(path: Path) -> None:
    """x of [rows, 4, 4, 3] -> the sum of its last dimension, by a convolution."""
    import tensorflow as tf

    class Convolution(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 3], tf.float32, name="x")])
        def __call__(self, x):
            return {"y": tf.nn.conv2d(x, tf.ones((1, 1, 3, 1)), 1, "SAME")}

    _convert(path, Convolution())


def strings_lite(path: Path) -> None:
    """text of [rows] -> the same as [rows, 1]."""
    import tensorflow as tf

    class Strings(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def __call__(self, text):
            return {"echo": tf.reshape(text, [-1, 1])}

    _convert(path, Strings())


def _convert(path: Path, module: Any) -> None:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.__call__.get_concrete_function()], module)
    path.mkdir(parents=True)
    (path / "model.tflite").write_bytes(converter.convert())


def predict_signature(inputs: Mapping[str, str], outputs: Mapping[str, str]) -> bytes:
    """A serialized SignatureDef of floats: aliases to tensor names."""
    signature = protos.SignatureDef(method_name="tensorflow/serving/predict")
    for infos, names in ((signature.inputs, inputs), (signature.outputs, outputs)):
        for alias, name in names.items():
            infos[alias].name, infos[alias].dtype = name, 1
    return signature.SerializeToString()


def with_metadata(model: bytes, signatures: Mapping[str, bytes] | bytes) -> bytes:
    """The model with serialized SignatureDefs where TensorFlow Serving looks for them, or with other bytes there."""
    import flatbuffers
    from flatbuffers import flexbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    if not isinstance(signatures, bytes):
        builder = flexbuffers.Builder()
        with builder.Map():
            for name, serialized in signatures.items():
                builder.Key(name)
                builder.String(serialized.decode())  # these are ASCII
        signatures = bytes(builder.Finish())
    content = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))
    buffer = schema.BufferT()
    buffer.data = list(signatures)
    content.buffers.append(buffer)
    metadata = schema.MetadataT()
    metadata.name, metadata.buffer = "signature_defs_metadata", len(content.buffers) - 1
    content.metadata = [*(content.metadata or []), metadata]
    packed = flatbuffers.Builder(0)
    packed.Finish(content.Pack(packed), file_identifier=b"TFL3")
    return bytes(packed.Output())
