"""Regress: Examples in, one value each out. Sentences and order as regressor.cc."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from pyserving import protos
from pyserving.codec import model_spec
from pyserving.codec.examples import serialized_examples
from pyserving.core import InferenceCore
from pyserving.errors import InvalidArgument
from pyserving.inference.example_model import INPUTS, ExampleAnswer, check_data_type, find_signature, shape_text
from pyserving.signature import REGRESS_METHOD_NAME, DataType, SignatureDef
from pyserving.types import ModelSpec

OUTPUTS = "outputs"


def check_signature(signature: SignatureDef, *, check_method_name: bool = False) -> None:
    """Refuse a signature that cannot regress: one input `inputs`, one output `outputs`."""
    if check_method_name and signature.method_name != REGRESS_METHOD_NAME:
        raise InvalidArgument(
            f"Expected regression signature method_name to be {REGRESS_METHOD_NAME}. Was: {signature.method_name}"
        )
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise InvalidArgument("Expected one output Tensor.")
    if INPUTS not in signature.inputs:
        raise InvalidArgument(f"No regression inputs found in SignatureDef: {signature.debug_string}")
    if OUTPUTS not in signature.outputs:
        raise InvalidArgument(f"No regression outputs found in SignatureDef: {signature.debug_string}")


def fetches(signature: SignatureDef) -> list[str]:
    """Name of the graph tensor to fetch."""
    return [signature.outputs[OUTPUTS].name]


def fill_result(
    result: protos.RegressionResult,
    outputs: Mapping[str, np.ndarray],
    signature: SignatureDef,
    num_examples: int,
) -> None:
    """One Regression per example, from a float tensor of shape [batch] or [batch, 1]."""
    values = outputs[signature.outputs[OUTPUTS].name]
    if values.ndim not in (1, 2) or (values.ndim == 2 and values.shape[1] != 1):
        raise InvalidArgument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got " + shape_text(values)
        )
    if len(values) != num_examples:
        raise InvalidArgument(f"Input batch size did not match output batch size: {num_examples} vs. {len(values)}")
    check_data_type(values, DataType.DT_FLOAT, "Expected output Tensor of DT_FLOAT.  Got: ")
    for value in values.ravel().tolist():
        result.regressions.add(value=value)


async def regress(
    core: InferenceCore,
    request: protos.SerializedExampleRequest,
    *,
    check_method_name: bool = False,
    deadline: float | None = None,
    on_run: Callable[[float], None] = lambda micros: None,
) -> ExampleAnswer[protos.RegressionResponse]:
    """Answer a request with a ModelSpec in it as `regress_examples` does."""
    return await regress_examples(
        core,
        model_spec.decode(request.model_spec),
        request.input,
        check_method_name=check_method_name,
        deadline=deadline,
        on_run=on_run,
    )


async def regress_examples(
    core: InferenceCore,
    spec: ModelSpec,
    input: protos.SerializedInput,
    *,
    check_method_name: bool = False,
    deadline: float | None = None,
    on_run: Callable[[float], None] = lambda micros: None,
) -> ExampleAnswer[protos.RegressionResponse]:
    """Run a regress signature over Examples; `on_run(micros)` hears of the run once it has succeeded."""
    servable_id, signatures = core.signatures(spec)
    signature_name, signature = find_signature(signatures, spec.signature_name)
    check_signature(signature, check_method_name=check_method_name)
    examples = serialized_examples(input)
    run = await core.run(servable_id, {signature.inputs[INPUTS].name: examples}, fetches(signature), deadline=deadline)
    on_run(run.runtime_micros)
    response = protos.RegressionResponse()
    fill_result(response.result, run.outputs, signature, len(examples))
    model_spec.encode_into(response.model_spec, servable_id, signature_name)
    return ExampleAnswer(response, run.runtime_micros)
