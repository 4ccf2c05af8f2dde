"""Which library runs TensorFlow Lite models: LiteRT where it is installed, else the interpreter inside of TensorFlow.

LiteRT (`ai_edge_litert`) is what TensorFlow names as the interpreter's successor. It is imported in half a second, and
TensorFlow, which takes many, is not needed with it. Both run a model alike, on inputs of the shape that it asks for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TfliteRuntime:
    name: str
    make_interpreter: Callable[..., Any]
    """Takes `model_content` and `num_threads`. Raises ValueError, or RuntimeError, for a model it cannot run."""
    read_model: Callable[[bytes], Any]
    """The root table of a flatbuffer by the generated classes of TensorFlow Lite's schema."""
    checks_shapes: bool
    """It refuses inputs that its ops have no use for. Where not, it reads and writes beyond its arrays."""


def tflite_runtime() -> TfliteRuntime:
    """The one to use. The first call imports it; call in a loading thread."""
    try:
        return litert()
    except ImportError:
        return tensorflow_lite()


def litert() -> TfliteRuntime:
    """Raises ImportError where it is not installed."""
    from ai_edge_litert import schema_py_generated
    from ai_edge_litert.interpreter import Interpreter

    return TfliteRuntime("LiteRT", Interpreter, schema_py_generated.Model.GetRootAs, checks_shapes=True)


def tensorflow_lite() -> TfliteRuntime:
    """The interpreter inside of TensorFlow."""
    import tensorflow as tf
    from tensorflow.lite.python import schema_py_generated

    # Each interpreter warns that LiteRT is to be preferred, which the log says once for a model.
    warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter is deprecated", UserWarning)
    name, read_model = f"TensorFlow {tf.__version__}", schema_py_generated.Model.GetRootAs
    return TfliteRuntime(name, tf.lite.Interpreter, read_model, checks_shapes=False)
