"""Classify: Examples in, classes with labels and scores out. Sentences and order as classifier.cc."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from pyserving import protos
from pyserving.codec import model_spec
from pyserving.codec.examples import serialized_examples
from pyserving.core import InferenceCore
from pyserving.errors import InvalidArgument
from pyserving.inference.example_model import INPUTS, ExampleAnswer, check_data_type, find_signature, shape_text
from pyserving.signature import CLASSIFY_METHOD_NAME, DataType, SignatureDef
from pyserving.types import ModelSpec

CLASSES = "classes"
SCORES = "scores"


def check_signature(signature: SignatureDef, *, check_method_name: bool = False) -> None:
    """Refuse a signature that cannot classify: it takes one input `inputs`, and `classes` or `scores` as outputs."""
    if check_method_name and signature.method_name != CLASSIFY_METHOD_NAME:
        raise InvalidArgument(
            f"Expected classification signature method_name to be {CLASSIFY_METHOD_NAME}. Was: {signature.method_name}"
        )
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise InvalidArgument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if INPUTS not in signature.inputs:
        raise InvalidArgument(f"No classification inputs found in SignatureDef: {signature.debug_string}")
    if CLASSES not in signature.outputs and SCORES not in signature.outputs:
        raise InvalidArgument(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {signature.debug_string}"
        )


def fetches(signature: SignatureDef) -> list[str]:
    """Names of the graph tensors to fetch: classes, scores, whichever there are."""
    return [signature.outputs[alias].name for alias in (CLASSES, SCORES) if alias in signature.outputs]


def _checked(
    outputs: Mapping[str, np.ndarray], signature: SignatureDef, alias: str, dtype: DataType, num_examples: int
) -> np.ndarray | None:
    if alias not in signature.outputs:
        return None
    array = outputs[signature.outputs[alias].name]
    if array.ndim != 2:
        raise InvalidArgument(f"Expected Tensor shape: [batch_size num_classes] but got {shape_text(array)}")
    check_data_type(array, dtype, f"Expected {alias} Tensor of {dtype.name}. Got: ")
    if len(array) != num_examples:
        raise InvalidArgument(f"Expected {alias} output batch size of {num_examples}. Got: {len(array)}")
    return array


def fill_result(
    result: protos.ClassificationResult,
    outputs: Mapping[str, np.ndarray],
    signature: SignatureDef,
    num_examples: int,
) -> None:
    """One Classifications per example, classes in tensor order; what the model lacks stays `""` or 0."""
    classes = _checked(outputs, signature, CLASSES, DataType.DT_STRING, num_examples)
    scores = _checked(outputs, signature, SCORES, DataType.DT_FLOAT, num_examples)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise InvalidArgument(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    label_rows = None if classes is None else classes.tolist()
    score_rows = None if scores is None else scores.tolist()
    for row in range(num_examples):
        found = result.classifications.add().classes
        if label_rows is None:
            assert score_rows is not None  # check_signature saw one of the two
            for score in score_rows[row]:
                found.add(score=score)
        elif score_rows is None:
            for label in label_rows[row]:
                found.add(label=_text(label))
        else:
            for label, score in zip(label_rows[row], score_rows[row], strict=True):
                found.add(label=_text(label), score=score)


def _text(label: bytes) -> str:
    """Class.label is a proto3 string; bytes that are no UTF-8 cannot stand in one, here or in TensorFlow Serving."""
    return label.decode("utf-8", "replace")


async def classify(
    core: InferenceCore,
    request: protos.SerializedExampleRequest,
    *,
    check_method_name: bool = False,
    deadline: float | None = None,
    on_run: Callable[[float], None] = lambda micros: None,
) -> ExampleAnswer[protos.ClassificationResponse]:
    """Answer a request with a ModelSpec in it as `classify_examples` does."""
    return await classify_examples(
        core,
        model_spec.decode(request.model_spec),
        request.input,
        check_method_name=check_method_name,
        deadline=deadline,
        on_run=on_run,
    )


async def classify_examples(
    core: InferenceCore,
    spec: ModelSpec,
    input: protos.SerializedInput,
    *,
    check_method_name: bool = False,
    deadline: float | None = None,
    on_run: Callable[[float], None] = lambda micros: None,
) -> ExampleAnswer[protos.ClassificationResponse]:
    """Run a classify signature over Examples; `on_run(micros)` hears of the run once it has succeeded."""
    servable_id, signatures = core.signatures(spec)
    signature_name, signature = find_signature(signatures, spec.signature_name)
    check_signature(signature, check_method_name=check_method_name)
    examples = serialized_examples(input)
    run = await core.run(servable_id, {signature.inputs[INPUTS].name: examples}, fetches(signature), deadline=deadline)
    on_run(run.runtime_micros)
    response = protos.ClassificationResponse()
    fill_result(response.result, run.outputs, signature, len(examples))
    model_spec.encode_into(response.model_spec, servable_id, signature_name)
    return ExampleAnswer(response, run.runtime_micros)
