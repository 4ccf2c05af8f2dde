"""MultiInference: several classify and regress tasks of one model over the same Examples, in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pyserving import protos
from pyserving.codec import model_spec
from pyserving.codec.examples import serialized_examples
from pyserving.core import InferenceCore
from pyserving.errors import InvalidArgument, Unimplemented
from pyserving.inference import classify, regress
from pyserving.inference.example_model import INPUTS, ExampleAnswer
from pyserving.signature import CLASSIFY_METHOD_NAME, DEFAULT_SIGNATURE_NAME, REGRESS_METHOD_NAME, SignatureDef
from pyserving.types import ModelSpec

_KINDS = {CLASSIFY_METHOD_NAME: classify, REGRESS_METHOD_NAME: regress}


def _checked_signatures(
    tasks: Sequence[protos.InferenceTask], signatures: Mapping[str, SignatureDef], check_method_name: bool
) -> dict[str, SignatureDef]:
    """The tasks' signatures by name, in task order. As multi_inference.cc: every task is checked before any runs."""
    wanted: dict[str, SignatureDef] = {}
    for task in tasks:
        if not task.model_spec.name:
            raise InvalidArgument("Found ModelSpec with an empty model name.")
        if task.model_spec.name != tasks[0].model_spec.name:
            raise InvalidArgument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE_NAME
        if name in wanted:
            raise InvalidArgument(f"Duplicate evaluation of signature: {name}")
        if name not in signatures:
            raise InvalidArgument(f"Requested signature not found in model graph: {name}")
        kind = _KINDS.get(task.method_name)
        if kind is None:
            raise Unimplemented(f"Unsupported signature method_name: {task.method_name}")
        kind.check_signature(signatures[name], check_method_name=check_method_name)
        wanted[name] = signatures[name]
    return wanted


async def multi_inference(
    core: InferenceCore,
    request: protos.SerializedMultiInferenceRequest,
    *,
    check_method_name: bool = False,
    deadline: float | None = None,
    on_examples: Callable[[int], None] = lambda num_examples: None,
) -> ExampleAnswer[protos.MultiInferenceResponse]:
    """Run all tasks at once; `on_examples` hears how many Examples came, before the run.

    The first task alone picks the version; later tasks' version fields are not read.
    """
    tasks = request.tasks
    first = model_spec.decode(tasks[0].model_spec) if tasks else ModelSpec("")
    servable_id, signatures = core.signatures(first)
    wanted = _checked_signatures(tasks, signatures, check_method_name)
    examples = serialized_examples(request.input)
    on_examples(len(examples))
    feeds = {signature.inputs[INPUTS].name: examples for signature in wanted.values()}
    fetches = dict.fromkeys(
        name
        for task, signature in zip(tasks, wanted.values(), strict=True)
        for name in _KINDS[task.method_name].fetches(signature)
    )
    run = await core.run(servable_id, feeds, list(fetches), deadline=deadline)
    response = protos.MultiInferenceResponse()
    for task, (name, signature) in zip(tasks, wanted.items(), strict=True):
        result = response.results.add()
        model_spec.encode_into(result.model_spec, servable_id, name)
        if task.method_name == CLASSIFY_METHOD_NAME:
            classify.fill_result(result.classification_result, run.outputs, signature, len(examples))
        else:
            regress.fill_result(result.regression_result, run.outputs, signature, len(examples))
    return ExampleAnswer(response, run.runtime_micros)
