"""The digits example: what it trains, what it exports, and what its client shows."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from examples.digits.data import Digits, picture, split
from tests.conftest import Exported
from tests.trained_digits import run, trained_digits

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def out(exported: Exported) -> Path:
    """Both versions, trained and exported."""
    return exported(trained_digits)


@pytest.fixture(scope="module")
def held_back() -> Digits:
    return split()[1]


class Loaded:
    """One exported version in a graph session, as a server opens it."""

    def __init__(self, path: Path) -> None:
        import tensorflow as tf

        with tf.Graph().as_default():
            self._session = tf.compat.v1.Session()
            self._meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path))
        self.signature_defs = self._meta_graph.signature_def

    def run(self, signature_name: str, **inputs: Any) -> dict[str, np.ndarray]:
        signature = self.signature_defs[signature_name]
        feeds = {signature.inputs[alias].name: value for alias, value in inputs.items()}
        return self._session.run({alias: info.name for alias, info in signature.outputs.items()}, feeds)


@pytest.fixture(scope="module", params=[1, 2])
def version(request: pytest.FixtureRequest, out: Path) -> Loaded:
    return Loaded(out / str(request.param))


def example(image: np.ndarray) -> bytes:
    import tensorflow as tf

    feature = tf.train.Feature(float_list=tf.train.FloatList(value=image))
    return tf.train.Example(features=tf.train.Features(feature={"image": feature})).SerializeToString()


def summary(infos: Any) -> dict[str, tuple[str, list[int]]]:
    import tensorflow as tf

    return {a: (tf.as_dtype(info.dtype).name, [dim.size for dim in info.tensor_shape.dim]) for a, info in infos.items()}


def test_rows_held_back_are_the_same_each_time_and_not_trained_on(held_back: Digits) -> None:
    rows, again = split()
    assert (len(rows.labels), len(held_back.labels)) == (1437, 360)
    assert np.array_equal(again.images, held_back.images)
    assert held_back.images.dtype == np.float32
    assert held_back.labels.dtype == np.int64
    assert set(held_back.labels) == set(range(10))


def test_picture_shows_ink_where_the_pixels_are_dark() -> None:
    image = np.zeros(64, np.float32)
    image[[0, 63]] = 16
    assert picture(image).splitlines() == ["@@", *[""] * 6, " " * 14 + "@@"]


def test_signatures_say_what_a_client_needs(version: Loaded) -> None:
    predict, classify = version.signature_defs["serving_default"], version.signature_defs["classify"]
    assert predict.method_name == "tensorflow/serving/predict"
    assert summary(predict.inputs) == {"image": ("float32", [-1, 64])}
    assert summary(predict.outputs) == {"scores": ("float32", [-1, 10]), "label": ("int64", [-1])}
    assert classify.method_name == "tensorflow/serving/classify"
    assert summary(classify.inputs) == {"inputs": ("string", [-1])}
    assert summary(classify.outputs) == {"classes": ("string", [-1, 10]), "scores": ("float32", [-1, 10])}


def test_each_version_reads_held_back_digits(version: Loaded, held_back: Digits) -> None:
    outputs = version.run("serving_default", image=held_back.images)
    assert np.mean(outputs["label"] == held_back.labels) >= 0.93
    assert np.array_equal(outputs["scores"].argmax(axis=1), outputs["label"])
    np.testing.assert_allclose(outputs["scores"].sum(axis=1), 1, atol=1e-5)


def test_classify_scores_the_same_picture_as_predict(version: Loaded, held_back: Digits) -> None:
    images = held_back.images[:5]
    classified = version.run("classify", inputs=[example(image) for image in images])
    predicted = version.run("serving_default", image=images)
    np.testing.assert_allclose(classified["scores"], predicted["scores"], atol=1e-6)
    assert classified["classes"].tolist() == [[str(digit).encode() for digit in range(10)]] * 5


def test_versions_differ_in_their_scores(out: Path, held_back: Digits) -> None:
    first, second = (Loaded(out / str(number)).run("serving_default", image=held_back.images) for number in (1, 2))
    assert np.abs(first["scores"] - second["scores"]).max() > 0.1


def test_version_that_is_there_is_not_written_over(out: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    result = run("train.py", str(out), "--versions", "2")
    assert result.returncode == 2
    assert "never written over" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def nearest(images: np.ndarray) -> np.ndarray:
    """The labels of the training rows most like these: a classifier that needs no training and is sometimes wrong."""
    rows, _ = split()
    distances = ((images[:, None] - rows.images[None]) ** 2).sum(axis=2)
    return rows.labels[distances.argmin(axis=1)]


@contextmanager
def server(version: int) -> Iterator[int]:
    """A PredictionService that knows digits by their neighbours; yields its port."""
    from pyserving import protos

    def predict(request: Any, _: grpc.ServicerContext) -> Any:
        tensor = request.inputs["image"]
        shape = [dim.size for dim in tensor.tensor_shape.dim]
        answer = protos.PredictResponse(model_spec=request.model_spec)
        answer.model_spec.version.value = version
        images = np.frombuffer(tensor.tensor_content, np.float32).reshape(shape)
        answer.outputs["label"].int64_val.extend(nearest(images).tolist())
        return answer

    def classify(request: Any, context: grpc.ServicerContext) -> Any:
        if request.model_spec.signature_name != "classify":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not the classify signature")
        examples = request.input.example_list.examples
        images = np.array([example.features.feature["image"].float_list.value for example in examples], np.float32)
        answer = protos.ClassificationResponse()
        for label in nearest(images):
            scored = answer.result.classifications.add()
            for digit in range(10):
                scored.classes.add(label=str(digit), score=float(digit == label))
        return answer

    def method(function: Any, request_class: Any, answer_class: Any) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(function, request_class.FromString, answer_class.SerializeToString)

    handlers = {
        "Predict": method(predict, protos.PredictRequest, protos.PredictResponse),
        "Classify": method(classify, protos.ClassificationRequest, protos.ClassificationResponse),
    }
    service = grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", handlers)
    with ThreadPoolExecutor(1) as threads:
        grpc_server = grpc.server(threads)
        grpc_server.add_generic_rpc_handlers([service])
        port = grpc_server.add_insecure_port("127.0.0.1:0")
        grpc_server.start()
        try:
            yield port
        finally:
            grpc_server.stop(grace=None).wait()


def test_client_shows_a_digit_its_labels_and_the_version(held_back: Digits) -> None:
    with server(version=7) as port:
        result = run("client.py", "--port", str(port), "--rows", "4")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "\n".join(lines[:8]) == picture(held_back.images[0])
    labels, guesses = held_back.labels[:4].tolist(), nearest(held_back.images[:4]).tolist()
    shown = [[int(word) for word in line.split()[:3]] for line in lines[9:13]]
    assert shown == [[true, guess, guess] for true, guess in zip(labels, guesses, strict=True)]
    assert lines[-1] == "3 of 4 right, by version 7 of digits", "this classifier takes the second one, a 5, for a 9"


def test_client_says_why_when_nothing_listens() -> None:
    with server(version=1) as port:
        pass
    result = run("client.py", "--port", str(port))
    assert result.returncode == 1
    assert result.stderr.startswith("UNAVAILABLE: ")
