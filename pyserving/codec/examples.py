"""Inputs of Classify, Regress and MultiInference as the one array that the graph is fed."""

from __future__ import annotations

import numpy as np

from pyserving import protos
from pyserving.errors import InvalidArgument


def serialized_examples(input: protos.SerializedInput) -> np.ndarray:
    """The serialized tf.Examples, an object array of bytes, shape [n].

    A context is put before every example: parsed together, an example's own features win over the context's
    (TensorFlow Serving's util.cc). InvalidArgument when there is no example.
    """
    if input.WhichOneof("kind") == "example_list_with_context":
        with_context = input.example_list_with_context
        context = with_context.context
        examples = [context + example for example in with_context.examples]
    else:
        examples = list(input.example_list.examples)
    if not examples:
        raise InvalidArgument("Input is empty.")
    return np.fromiter(examples, object, len(examples))
