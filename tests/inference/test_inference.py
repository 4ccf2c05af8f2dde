"""Classify, Regress and MultiInference, sentence by sentence, on a core that answers from plain functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from pyserving import protos
from pyserving.errors import InvalidArgument, NotFound, ServingError, Unimplemented
from pyserving.inference.classify import classify
from pyserving.inference.multi_inference import multi_inference
from pyserving.inference.regress import regress
from pyserving.signature import CLASSIFY_METHOD_NAME, REGRESS_METHOD_NAME, DataType, SignatureDef, TensorInfo
from tests.fake_core import FakeCore

EXAMPLES = TensorInfo("examples:0", DataType.DT_STRING, (-1,))
CLASSES = TensorInfo("classes:0", DataType.DT_STRING, (-1, 2))
SCORES = TensorInfo("scores:0", DataType.DT_FLOAT, (-1, 2))
VALUES = TensorInfo("values:0", DataType.DT_FLOAT, (-1, 1))

CLASSIFY = SignatureDef(
    {"inputs": EXAMPLES}, {"classes": CLASSES, "scores": SCORES}, CLASSIFY_METHOD_NAME, debug_string="<dump>"
)
REGRESS = SignatureDef({"inputs": EXAMPLES}, {"outputs": VALUES}, REGRESS_METHOD_NAME, debug_string="<dump>")


def tensors(num_examples: int) -> dict[str, np.ndarray]:
    return {
        "classes:0": np.array([[b"yes", b"no"]] * num_examples, object).reshape(num_examples, 2),
        "scores:0": np.array([[0.75, 0.25]] * num_examples, np.float32).reshape(num_examples, 2),
        "values:0": np.arange(num_examples, dtype=np.float32).reshape(num_examples, 1),
    }


def core(signature: SignatureDef = CLASSIFY, **changed: np.ndarray) -> FakeCore:
    def run(feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        (examples,) = feeds.values()
        return tensors(len(examples)) | {f"{name}:0": array for name, array in changed.items()}

    return FakeCore({"serving_default": signature, "regress": REGRESS, "classify": CLASSIFY}, run)


def request(num_examples: int = 2, name: str = "m", signature: str = "") -> protos.SerializedExampleRequest:
    message = protos.SerializedExampleRequest()
    message.model_spec.name = name
    message.model_spec.signature_name = signature
    message.input.example_list.examples.extend(protos.Example().SerializeToString() for _ in range(num_examples))
    return message


@pytest.mark.proves(
    "rpc PredictionService.Classify",
    "field ClassificationRequest.model_spec",
    "field ClassificationRequest.input",
    "field ClassificationResponse.result",
    "field ClassificationResponse.model_spec",
    "field ClassificationResult.classifications",
    "field Classifications.classes",
    "field Class.label",
    "field Class.score",
)
async def test_classify_gives_labels_and_scores_in_tensor_order() -> None:
    answer = await classify(core(), request(2))
    found = [[(c.label, c.score) for c in row.classes] for row in answer.response.result.classifications]
    assert found == [[("yes", 0.75), ("no", 0.25)]] * 2
    spec = answer.response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", 7, "serving_default")


async def test_classify_leaves_what_the_model_lacks_at_its_default() -> None:
    only_scores = replace(CLASSIFY, outputs={"scores": SCORES})
    answer = await classify(core(only_scores), request(1))
    assert [c.label for c in answer.response.result.classifications[0].classes] == ["", ""]
    only_classes = replace(CLASSIFY, outputs={"classes": CLASSES, "other": VALUES})
    answer = await classify(core(only_classes), request(1))
    assert [c.score for c in answer.response.result.classifications[0].classes] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("signature", "sentence"),
    [
        (replace(CLASSIFY, inputs={"inputs": EXAMPLES, "x": EXAMPLES}), "Expected one input Tensor."),
        (replace(CLASSIFY, outputs={}), "Expected one or two output Tensors, found 0"),
        (
            replace(CLASSIFY, outputs={"classes": CLASSES, "scores": SCORES, "x": VALUES}),
            "Expected one or two output Tensors, found 3",
        ),
        (
            replace(CLASSIFY, inputs={"examples": EXAMPLES}),
            "No classification inputs found in SignatureDef: <dump>",
        ),
        (
            replace(CLASSIFY, outputs={"x": VALUES}),
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            "Signature was: <dump>",
        ),
    ],
)
async def test_classify_refuses_a_signature_that_cannot(signature: SignatureDef, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        await classify(core(signature), request())
    assert raised.value.message == sentence


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"classes": np.array([b"a"], object)}, "Expected Tensor shape: [batch_size num_classes] but got [1]"),
        ({"classes": np.zeros((2, 2), np.int64)}, "Expected classes Tensor of DT_STRING. Got: DT_INT64"),
        ({"classes": np.array([[b"a", b"b"]], object)}, "Expected classes output batch size of 2. Got: 1"),
        (
            {"scores": np.zeros((2, 2, 1), np.float32)},
            "Expected Tensor shape: [batch_size num_classes] but got [2,2,1]",
        ),
        ({"scores": np.zeros((2, 2), np.float64)}, "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE"),
        ({"scores": np.zeros((3, 2), np.float32)}, "Expected scores output batch size of 2. Got: 3"),
        ({"scores": np.zeros((2, 3), np.float32)}, "Tensors class and score should match in dim_size(1). Got 2 vs. 3"),
    ],
)
async def test_classify_refuses_wrong_outputs(changed: dict[str, np.ndarray], sentence: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        await classify(core(**changed), request(2))
    assert raised.value.message == sentence


@pytest.mark.proves(
    "rpc PredictionService.Regress",
    "field RegressionRequest.model_spec",
    "field RegressionRequest.input",
    "field RegressionResponse.result",
    "field RegressionResponse.model_spec",
    "field RegressionResult.regressions",
    "field Regression.value",
)
async def test_regress_gives_one_value_each() -> None:
    answer = await regress(core(), request(3, signature="regress"))
    assert [r.value for r in answer.response.result.regressions] == [0.0, 1.0, 2.0]
    assert answer.response.model_spec.signature_name == "regress"


@pytest.mark.parametrize(
    ("signature", "sentence"),
    [
        (replace(REGRESS, inputs={}), "Expected one input Tensor."),
        (replace(REGRESS, outputs={"outputs": VALUES, "x": VALUES}), "Expected one output Tensor."),
        (replace(REGRESS, inputs={"x": EXAMPLES}), "No regression inputs found in SignatureDef: <dump>"),
        (replace(REGRESS, outputs={"x": VALUES}), "No regression outputs found in SignatureDef: <dump>"),
    ],
)
async def test_regress_refuses_a_signature_that_cannot(signature: SignatureDef, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        await regress(core(signature), request())
    assert raised.value.message == sentence


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            np.zeros((2, 2), np.float64),
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [2,2]",
        ),
        (np.zeros(3, np.float64), "Input batch size did not match output batch size: 2 vs. 3"),
        (np.zeros(2, np.float64), "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
    ],
)
async def test_regress_refuses_wrong_outputs_shape_first(values: np.ndarray, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        await regress(core(REGRESS, values=values), request(2))
    assert raised.value.message == sentence


@pytest.mark.parametrize("inference", [classify, regress])
async def test_signature_and_input_are_checked_in_this_order(inference: object) -> None:
    with pytest.raises(NotFound):
        await inference(core(), request(0, name="other", signature="nope"))  # type: ignore[operator]
    with pytest.raises(InvalidArgument) as raised:
        await inference(core(), request(0, signature="nope"))  # type: ignore[operator]
    assert raised.value.message == "No signature was found with the name: nope"
    signature = "classify" if inference is classify else "regress"
    with pytest.raises(InvalidArgument) as raised:
        await inference(core(), request(0, signature=signature))  # type: ignore[operator]
    assert raised.value.message == "Input is empty."


async def test_the_method_name_is_checked_only_on_demand() -> None:
    named = replace(CLASSIFY, method_name="tensorflow/serving/predict")
    assert (await classify(core(named), request())).response.result.classifications
    with pytest.raises(InvalidArgument) as raised:
        await classify(core(named), request(), check_method_name=True)
    assert raised.value.message == (
        "Expected classification signature method_name to be tensorflow/serving/classify. "
        "Was: tensorflow/serving/predict"
    )
    with pytest.raises(InvalidArgument) as raised:
        await regress(core(replace(REGRESS, method_name="x")), request(), check_method_name=True)
    assert raised.value.message == (
        "Expected regression signature method_name to be tensorflow/serving/regress. Was: x"
    )


def multi(*tasks: tuple[str, str, str], num_examples: int = 2) -> protos.SerializedMultiInferenceRequest:
    message = protos.SerializedMultiInferenceRequest()
    for name, signature, method in tasks:
        task = message.tasks.add(method_name=method)
        task.model_spec.name = name
        task.model_spec.signature_name = signature
    message.input.example_list.examples.extend(b"" for _ in range(num_examples))
    return message


@pytest.mark.proves(
    "field MultiInferenceRequest.tasks",
    "field MultiInferenceRequest.input",
    "field MultiInferenceResponse.results",
    "field InferenceTask.model_spec",
    "field InferenceTask.method_name",
    "field InferenceResult.model_spec",
    "field InferenceResult.classification_result",
    "field InferenceResult.regression_result",
)
async def test_multi_inference_runs_once_and_answers_in_task_order() -> None:
    fake = core()
    seen: list[int] = []
    answer = await multi_inference(
        fake,
        multi(("m", "regress", REGRESS_METHOD_NAME), ("m", "classify", CLASSIFY_METHOD_NAME)),
        on_examples=seen.append,
    )
    first, second = answer.response.results
    assert [r.value for r in first.regression_result.regressions] == [0.0, 1.0]
    assert second.classification_result.classifications[1].classes[0].label == "yes"
    assert (second.model_spec.signature_name, second.model_spec.version.value) == ("classify", 7)
    assert fake.fetched == [("values:0", "classes:0", "scores:0")]
    assert seen == [2]


@pytest.mark.parametrize(
    ("tasks", "error"),
    [
        ((("other", "", CLASSIFY_METHOD_NAME),), NotFound("Servable not found for request: Latest(other)")),
        (
            (("m", "classify", CLASSIFY_METHOD_NAME), ("", "", "")),
            InvalidArgument("Found ModelSpec with an empty model name."),
        ),
        (
            (("m", "classify", CLASSIFY_METHOD_NAME), ("n", "", "")),
            InvalidArgument("All ModelSpecs in a MultiInferenceRequest must access the same model name."),
        ),
        (
            (("m", "", CLASSIFY_METHOD_NAME), ("m", "serving_default", CLASSIFY_METHOD_NAME)),
            InvalidArgument("Duplicate evaluation of signature: serving_default"),
        ),
        (
            (("m", "nope", CLASSIFY_METHOD_NAME),),
            InvalidArgument("Requested signature not found in model graph: nope"),
        ),
        (
            (("m", "classify", "tensorflow/serving/predict"),),
            Unimplemented("Unsupported signature method_name: tensorflow/serving/predict"),
        ),
        (
            (("m", "regress", CLASSIFY_METHOD_NAME),),
            InvalidArgument(
                'Expected classification signature outputs to contain at least one of "classes" or "scores". '
                "Signature was: <dump>"
            ),
        ),
    ],
)
async def test_multi_inference_checks_every_task_first(
    tasks: tuple[tuple[str, str, str], ...], error: ServingError
) -> None:
    with pytest.raises(type(error)) as raised:
        await multi_inference(core(), multi(*tasks, num_examples=0))
    assert raised.value.message == error.message


async def test_multi_inference_wants_examples_after_the_task_checks() -> None:
    with pytest.raises(InvalidArgument, match="Input is empty"):
        await multi_inference(core(), multi(("m", "classify", CLASSIFY_METHOD_NAME), num_examples=0))
