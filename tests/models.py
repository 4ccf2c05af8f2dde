"""Tiny SavedModels for tests: each function exports one version folder, seeded and in about a second.

TensorFlow is imported when the first model is exported, not before.
"""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pyserving.signature import DataType

ASSET_CONTENTS = b"asset-file-contents"


def export_once(cache: Path, export: Callable[[Path], None]) -> Path:
    """The version folder that `export` makes, shared by all who pass the same `cache`; other processes wait for it."""
    name = f"{export.__module__}.{export.__name__}"
    base_path = cache / name
    with open(cache / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not base_path.exists():
            draft = cache / f"{name}.draft"
            export(draft / "1")
            draft.rename(base_path)
    return base_path / "1"


def half_plus_two(path: Path, *, two: float = 2.0, as_text: bool = False) -> None:
    """The signatures of TensorFlow Serving's saved_model_half_plus_two_cpu, by the TF1 builder.

    `serving_default` is y = x / 2 + `two`. The regress and classify signatures take serialized Examples with `x` and
    `x2` (0 when left out), except `regress_x2_to_y3`, which takes the parsed x2. It has variables, an asset and an
    init op, which reads the asset into `asset_contents:0`.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        a = v1.Variable(0.5, name="a", use_resource=False)
        b = v1.Variable(two, name="b", use_resource=False)
        c = v1.Variable(3.0, name="c", use_resource=False)
        examples = v1.placeholder(tf.string, [None], name="tf_example")
        parsed = tf.io.parse_example(
            examples,
            {
                "x": tf.io.FixedLenFeature([1], tf.float32),
                "x2": tf.io.FixedLenFeature([1], tf.float32, default_value=[0.0]),
            },
        )
        x = tf.identity(parsed["x"], name="x")
        x2 = tf.identity(parsed["x2"], name="x2")
        y = tf.add(a * x, b, name="y")
        y2 = tf.add(a * x, c, name="y2")
        y3 = tf.add(a * x2, c, name="y3")
        signatures = {
            "serving_default": signature({"x": x}, {"y": y}),
            "classify_x_to_y": signature({"inputs": examples}, {"scores": y}, "classify"),
            "regress_x_to_y": signature({"inputs": examples}, {"outputs": y}, "regress"),
            "regress_x_to_y2": signature({"inputs": examples}, {"outputs": y2}, "regress"),
            "regress_x2_to_y3": signature({"inputs": x2}, {"outputs": y3}, "regress"),
        }
        with tempfile.TemporaryDirectory() as folder:
            asset = Path(folder, "foo.txt")
            asset.write_bytes(ASSET_CONTENTS)
            asset_path = tf.constant(str(asset))
            v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, asset_path)
            contents = v1.Variable("", name="asset_contents", collections=[], use_resource=False)
            save_graph(
                path, session, signatures, init_op=contents.assign(tf.io.read_file(asset_path)).op, as_text=as_text
            )


def half_plus_two_text(path: Path) -> None:
    """`half_plus_two` as saved_model.pbtxt."""
    half_plus_two(path, as_text=True)


def half_plus_two_tf2(path: Path) -> None:
    """y = x / 2 + 2 as a TF2 export: resource variables, functions and an object graph. Declares x as [1]."""
    import tensorflow as tf

    class HalfPlusTwo(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = tf.Variable(0.5)
            self.b = tf.Variable(2.0)

        @tf.function(input_signature=[tf.TensorSpec([1], tf.float32, name="x")])
        def __call__(self, x):
            return {"y": self.a * x + self.b}

    model = HalfPlusTwo()
    tf.saved_model.save(model, str(path), signatures=model.__call__)


def compiled_by_xla(path: Path) -> None:
    """y = x * x + 1 as a function that must be compiled by XLA."""
    import tensorflow as tf

    class Compiled(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def __call__(self, x):
            return {"y": self.square_plus_one(x)}

        @tf.function(jit_compile=True)
        def square_plus_one(self, x):
            return x * x + 1.0

    model = Compiled()
    tf.saved_model.save(model, str(path), signatures=model.__call__)


def counter(path: Path) -> None:
    """A float that requests change, held in a reference variable; most signatures take no input.

    `get_counter`, `incr_counter`, `incr_counter_by` (input `delta`) and `reset_counter` all answer `output`.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        count = v1.Variable(0.0, name="counter", use_resource=False)
        delta = v1.placeholder(tf.float32, [], name="delta")
        signatures = {
            "get_counter": signature({}, {"output": count}),
            "incr_counter": signature({}, {"output": count.assign_add(1.0)}),
            "incr_counter_by": signature({"delta": delta}, {"output": count.assign_add(delta)}),
            "reset_counter": signature({}, {"output": count.assign(0.0)}),
        }
        save_graph(path, session, signatures)


def string_echo(path: Path) -> None:
    """`content` of any shape comes back as `echo`, and its lengths in bytes as `length`."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        content = v1.placeholder(tf.string, name="content")
        echo = tf.identity(content)
        length = tf.strings.length(content)
        save_graph(
            path, session, {"serving_default": signature({"content": content}, {"echo": echo, "length": length})}
        )


def identity(path: Path) -> None:
    """One signature for each of `identity_types()`, named as TensorFlow names it (`float`, `half`): x -> y = x."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        signatures = {}
        for data_type in identity_types():
            x = v1.placeholder(int(data_type))
            signatures[data_type.type_name] = signature({"x": x}, {"y": tf.identity(x)})
        save_graph(path, session, signatures)


def identity_types() -> list[DataType]:
    """The types that arrays can hold and the installed TensorFlow knows."""
    from tensorflow.core.framework import types_pb2

    return [t for t in DataType if t.numpy is not None and t in types_pb2.DataType.values()]


def brightness(path: Path) -> None:
    """The mean of each of the `images` (uint8 [-1, 64, 64, 3]), and 41.5, as `brightness`."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        images = v1.placeholder(tf.uint8, [None, 64, 64, 3], name="images")
        mean = tf.reduce_mean(tf.cast(images, tf.float32), [1, 2, 3]) + 41.5
        save_graph(path, session, {"serving_default": signature({"images": images}, {"brightness": mean})})


def slow(path: Path) -> None:
    """Counts to `steps` (int64 scalar), some microseconds each, and answers it as `counted`."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        steps = v1.placeholder(tf.int64, [], name="steps")
        (counted,) = tf.while_loop(lambda i: i < steps, lambda i: (i + 1,), [tf.constant(0, tf.int64)])
        save_graph(path, session, {"serving_default": signature({"steps": steps}, {"counted": tf.identity(counted)})})


def large(path: Path) -> None:
    """y = x + a mean of variables that take 100 MB, four of them."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        weights = [v1.Variable(tf.random.stateless_normal([6_250_000], [0, seed])) for seed in range(4)]
        y = x + tf.add_n([tf.reduce_mean(weight[:1000]) for weight in weights])
        save_graph(path, session, {"serving_default": signature({"x": x}, {"y": y})})


def wide(path: Path, *, nodes: int = 4000) -> None:
    """y = x, and a graph of many `nodes` beside it, as of a deep network."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.Session(graph=tf.Graph()) as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        y = tf.identity(x, name="y")
        for _ in range(nodes):
            x = tf.negative(x)
        save_graph(path, session, {"serving_default": signature({"x": tf.identity(x)}, {"y": y})})


def dense(path: Path) -> None:
    """Three layers of 256 by a TF2 export; `compiled` is the same, by XLA."""
    import tensorflow as tf

    class Dense(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [tf.Variable(tf.random.stateless_normal([256, 256], [0, seed]) / 16) for seed in range(3)]

        @tf.function(input_signature=[tf.TensorSpec([None, 256], tf.float32, name="x")])
        def __call__(self, x):
            for layer in self.layers:
                x = tf.nn.relu(x @ layer)
            return {"y": x}

        @tf.function(input_signature=[tf.TensorSpec([None, 256], tf.float32, name="x")], jit_compile=True)
        def compiled(self, x):
            return self(x)

    model = Dense()
    signatures = {"serving_default": model.__call__, "compiled": model.compiled}
    tf.saved_model.save(model, str(path), signatures=signatures)


def signature(inputs: Mapping[str, Any], outputs: Mapping[str, Any], method: str = "predict") -> Any:
    """A SignatureDef of tensors by alias, for the given RPC."""
    import tensorflow as tf

    v1 = tf.compat.v1.saved_model
    return v1.build_signature_def(
        {alias: v1.build_tensor_info(tensor) for alias, tensor in inputs.items()},
        {alias: v1.build_tensor_info(tensor) for alias, tensor in outputs.items()},
        f"tensorflow/serving/{method}",
    )


def save_graph(
    path: Path, session: Any, signatures: Mapping[str, Any], *, init_op: Any = None, as_text: bool = False
) -> None:
    """Export a session's graph and its variables, at their initial values, by the TF1 builder."""
    import tensorflow as tf

    v1 = tf.compat.v1
    session.run(v1.global_variables_initializer())
    builder = v1.saved_model.Builder(str(path))
    builder.add_meta_graph_and_variables(
        session,
        ["serve"],
        signature_def_map=signatures,
        assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
        main_op=init_op,
    )
    builder.save(as_text)
