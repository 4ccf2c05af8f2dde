"""What public gRPC clients of TensorFlow Serving send, through unmodified stubs, over both transports.

Each client is restated as its source has it: names, types, fields, deadlines. `docs/clients.md` is made of the marks.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    predict_pb2,
)

from tests.clients.conftest import Serve, Served
from tests.clients.old_clients import SERVICE, beta_stub, predict_response_of_2016
from tests.clients.stand_ins import embeddings, softmax
from tests.end_to_end.client_requests import example, predict_request, status_request

pytestmark = pytest.mark.slow


@pytest.fixture(params=["grpcio", "http2"])
def served(serve: Serve, request: pytest.FixtureRequest) -> Served:
    return serve(request.param)


def new_request(model: str, signature: str = "") -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    return request


def refusal(call: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return refused.value.code().name, refused.value.details()


def two_classes(logit: float) -> list[float]:
    """Softmax of 0 and the logit."""
    return [1 / (1 + np.exp(logit)), 1 / (1 + np.exp(-logit))]


@pytest.mark.proves("rpc PredictionService.Predict")
@pytest.mark.client(
    "tensorflow_template_application, dense model, Python with `grpc.beta`",
    request="Predict `default`: `keys` int32 [4] for a placeholder of [-1,1] and `features` float [4,9] as content;"
    " no signature name; 10 s",
    answer="softmax in `float_val`, `keys` as sent; the method name `tensorflow/serving/predictss` does not matter",
)
def test_dense_client_of_grpc_beta(served: Served) -> None:
    request = new_request("default")
    features = np.array([[10, 3, 8, 1, 5, 8, 9, 7, 1], [1] * 9, [0] * 9, [-1] * 9], np.float32)
    request.inputs["features"].CopyFrom(tf.make_tensor_proto(features, shape=[4, 9]))
    request.inputs["keys"].CopyFrom(tf.make_tensor_proto(np.arange(1, 5, dtype=np.int32)))
    with served.server.channel() as channel:
        stub = beta_stub(channel)
        answers = [stub.Predict(request, 10.0), stub.Predict.future(request, 10.0).result()]
    expected = [two_classes(-0.1 * total) for total in features.sum(axis=1)]
    for answer in answers:
        assert list(answer.outputs["keys"].int_val) == [1, 2, 3, 4]
        np.testing.assert_allclose(np.reshape(answer.outputs["softmax"].float_val, (4, 2)), expected, rtol=1e-5)
        assert answer.model_spec.version.value == 2


@pytest.mark.proves("field ModelSpec.name", "field ModelSpec.version")
@pytest.mark.client(
    "tensorflow_template_application, dense model, Go",
    request="Predict `default`, version 1: `keys` `int_val` [3], `features` `float_val` [3,9], dimensions with names",
    answer="the answer of version 1, beside which version 2 serves",
)
def test_dense_client_in_go(served: Served) -> None:
    request = new_request("default")
    request.model_spec.version.value = 1
    keys, features = request.inputs["keys"], request.inputs["features"]
    keys.dtype, features.dtype = tf.int32.as_datatype_enum, tf.float32.as_datatype_enum
    keys.tensor_shape.dim.add(size=3, name=" ")
    keys.int_val.extend([1, 2, 3])
    features.tensor_shape.dim.add(size=3, name="a")
    features.tensor_shape.dim.add(size=9, name=" ")
    features.float_val.extend([1.0] * 27)
    answer = served.prediction.Predict(request, timeout=10)
    np.testing.assert_allclose(answer.outputs["softmax"].float_val, two_classes(0.9) * 3, rtol=1e-6)
    assert list(answer.outputs["prediction"].int64_val) == [1, 1, 1]
    assert answer.model_spec.version.value == 1


@pytest.mark.client(
    "tensorflow_template_application, dense model, Java and Scala, with the protos of 2016",
    request="Predict `default`: `keys` `int_val` [2,1], `features` `float_val` [2,9], dtype after the values; 10 s",
    answer="outputs as a PredictResponse that knows no `model_spec`, which it passes over",
)
def test_dense_client_in_java(served: Served) -> None:
    features = tf.make_tensor_proto(np.zeros((2, 9), np.float32))
    keys_late_dtype = b"".join(
        (
            b"\x3a\x02\x0b\x0c",  # int_val 11, 12
            b"\x12\x08\x12\x02\x08\x02\x12\x02\x08\x01",  # tensor_shape [2, 1]
            b"\x08\x03",  # DT_INT32
        )
    )
    request = new_request("default")
    request.inputs["features"].CopyFrom(features)
    entry = b"\x0a\x04keys\x12" + bytes([len(keys_late_dtype)]) + keys_late_dtype
    body = request.SerializeToString() + b"\x12" + bytes([len(entry)]) + entry
    with served.server.channel() as channel:
        predict = channel.unary_unary(f"/{SERVICE}/Predict", None, predict_response_of_2016().FromString)
        answer = predict(body, timeout=10)
    assert list(answer.outputs["keys"].int_val) == [11, 12]
    assert [dim.size for dim in answer.outputs["keys"].tensor_shape.dim] == [2, 1]
    assert list(answer.outputs["softmax"].float_val) == [0.5] * 4


@pytest.mark.client(
    "tensorflow_template_application, sparse model, Python, Go, Java and C++",
    request="Predict `sparse`: five inputs whose first dimensions are 2, 28, 28, 28 and 2; no version, no signature",
    answer="`softmax` [2,2] and `prediction` [2], read by C++'s `Tensor::FromProto`",
)
def test_sparse_clients(served: Served) -> None:
    ids = np.arange(28, dtype=np.int64)
    inputs = {
        "keys": np.array([1, 2], np.int32),
        "indexs": np.stack([np.repeat([0, 1], 14), np.tile(np.arange(14), 2)], axis=1),
        "ids": ids,
        "values": np.full(28, 0.5, np.float32),
        "shape": np.array([2, 124], np.int64),
    }
    answer = served.prediction.Predict(predict_request("sparse", inputs), timeout=10)
    logits = 0.5 * embeddings()[ids].reshape(2, 14, 2).sum(axis=1)
    np.testing.assert_allclose(tf.make_ndarray(answer.outputs["softmax"]), softmax(logits), rtol=1e-5)
    from_proto = tf.io.parse_tensor(answer.outputs["prediction"].SerializeToString(), tf.int64)
    assert from_proto.numpy().tolist() == logits.argmax(axis=1).tolist()


@pytest.mark.client(
    "tensorflow_template_application, minimal model, `benchmark_qps.py`",
    request="Predict `minimal` thousands of times by futures of 100 s: `features` float [9]",
    answer="each its own",
)
def test_minimal_client_and_its_benchmark(served: Served) -> None:
    futures = [
        served.prediction.Predict.future(
            predict_request("minimal", {"features": np.full(9, number, np.float32)}), timeout=100
        )
        for number in range(1000)
    ]
    for number, future in enumerate(futures):
        assert list(future.result().outputs["prediction"].float_val) == [2.0 * number] * 9


@pytest.mark.client(
    "tensorflow_template_application, minimal model, as exported before 2017",
    request="GetModelStatus of a version folder with `export.meta`, a SessionBundle",
    answer="END with UNIMPLEMENTED `Session Bundle is deprecated and removed.`; other models serve",
)
def test_session_bundle_is_told_apart(served: Served) -> None:
    (status,) = served.model.GetModelStatus(status_request("session_bundle"), timeout=10).model_version_status
    assert (status.state, status.status.error_code) == (50, 12)
    assert status.status.error_message == "Session Bundle is deprecated and removed."


@pytest.mark.proves("field ModelSpec.signature_name")
@pytest.mark.client(
    "deeplab_v3, the notebook of the freeCodeCamp article",
    request="Predict `deeplab`, signature `predict_images`: `images` float [1,600,512,3] as content (3.7 MB),"
    " `height` and `width` as Python integers, shape [1]; 30 s",
    answer="`segmentation_map` in `int64_val` and its `tensor_shape`; without the signature's name FAILED_PRECONDITION",
)
def test_deeplab_notebook(served: Served) -> None:
    images = np.random.default_rng(7).uniform(0, 255, (1, 600, 512, 3)).astype(np.float32)
    request = new_request("deeplab", "predict_images")
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(images, shape=images.shape))
    request.inputs["height"].CopyFrom(tf.make_tensor_proto(600, shape=[1]))
    request.inputs["width"].CopyFrom(tf.make_tensor_proto(512, shape=[1]))
    answer = served.prediction.Predict(request, timeout=30).outputs["segmentation_map"]
    height, width = (answer.tensor_shape.dim[axis].size for axis in (1, 2))
    mask = np.array(answer.int64_val).reshape(height, width)
    np.testing.assert_array_equal(mask, images[0].argmax(axis=2))
    request.model_spec.signature_name = ""
    assert refusal(lambda: served.prediction.Predict(request, timeout=30)) == (
        "FAILED_PRECONDITION",
        'Serving signature key "serving_default" not found.',
    )


@pytest.mark.client(
    "text-antispam, the Tornado gateway of the first generation",
    request="Predict `antispam`: `x` float [1,words,200], one request object for all; blocking, 10 s",
    answer="`list(outputs['y'].int64_val)`; float64 is INVALID_ARGUMENT, never cast in silence",
)
def test_antispam_gateway(served: Served) -> None:
    request = new_request("antispam")

    def gateway(words: np.ndarray) -> dict[str, Any]:
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(words, shape=words.shape))
        response = served.prediction.Predict(request, 10.0)
        return {"data": {"predict": response.outputs["y"].int64_val[0]}}

    spam, ham = np.zeros((1, 7, 200), np.float32), np.zeros((1, 3, 200), np.float32)
    spam[..., 1], ham[..., 0] = 1, 1
    assert [gateway(words)["data"]["predict"] for words in (spam, ham, spam)] == [1, 0, 1]
    assert refusal(lambda: gateway(spam.astype(np.float64))) == (
        "INVALID_ARGUMENT",
        "Expects arg[0] to be float but double is provided",
    )


def jpeg(colour: tuple[int, int, int]) -> bytes:
    encoded: bytes = tf.io.encode_jpeg(np.full((16, 16, 3), colour, np.uint8)).numpy()
    return encoded


@pytest.mark.client(
    "SVHN GAN client, also in its variant without TensorFlow",
    request="Predict `svhn`, signature `predict_images`: `images` strings of JPEG bytes, in a TensorProto made by hand,"
    " shape [n]; 60 s",
    answer="`scores`",
)
def test_house_number_client(served: Served) -> None:
    request = new_request("svhn", "predict_images")
    images = request.inputs["images"]
    images.dtype = 7
    images.tensor_shape.dim.add(size=2)
    images.string_val.extend([jpeg((255, 0, 0)), jpeg((0, 0, 255))])
    scores = tf.make_ndarray(served.prediction.Predict(request, timeout=60).outputs["scores"])
    np.testing.assert_allclose(scores, [[1, 0, 0], [0, 0, 1]], atol=0.02)


def tokens(length: int) -> np.ndarray:
    """The numbers of some tokens, int32 [1, length]."""
    return np.random.default_rng(length).integers(1, 200, (1, length)).astype(np.int32)


@pytest.mark.client(
    "BERT as google-research exports it (`bert_serving`)",
    request="Predict `bert_google`: `label_ids` int32 [1], which the graph has no use for, and `input_ids`,"
    " `input_mask`, `segment_ids` int32 [1,128]",
    answer="`probabilities`; without `label_ids` INVALID_ARGUMENT that names it",
)
def test_bert_client_of_google_research(served: Served) -> None:
    ids = tokens(128)
    inputs = {
        "label_ids": np.zeros(1, np.int32),
        "input_ids": ids,
        "input_mask": np.ones_like(ids),
        "segment_ids": np.zeros_like(ids),
    }
    answer = served.prediction.Predict(predict_request("bert_google", inputs), timeout=10)
    expected = softmax(embeddings()[ids].sum(axis=1))
    np.testing.assert_allclose(tf.make_ndarray(answer.outputs["probabilities"]), expected, rtol=1e-4)
    del inputs["label_ids"]
    code, details = refusal(lambda: served.prediction.Predict(predict_request("bert_google", inputs), timeout=10))
    assert code == "INVALID_ARGUMENT"
    assert "Missing but required: {label_ids}." in details


@pytest.mark.client(
    "BERT as google-research exports it for tf.Examples",
    request="Predict `bert_google`: `examples` strings [n] of serialized tf.Examples, in `string_val`",
    answer="`probabilities` [n,2]",
)
def test_bert_client_with_examples(served: Served) -> None:
    rows = [
        example(input_ids=[token] * 128, input_mask=[1] * 128, segment_ids=[0] * 128).SerializeToString()
        for token in (0, 1)
    ]
    request = predict_request("bert_google", {"examples": rows}, "by_example")
    answer = served.prediction.Predict(request, timeout=10)
    expected = softmax(embeddings()[[0, 1]] * 128)
    np.testing.assert_allclose(tf.make_ndarray(answer.outputs["probabilities"]), expected, atol=1e-5)


@pytest.mark.client(
    "BERT as the Hugging Face blog calls it",
    request="Predict `bert`, signature `serving_default`: `input_ids`, `attention_mask`, `token_type_ids` int32"
    " [1,length]; no deadline",
    answer='`outputs["logits"].float_val`',
)
def test_bert_client_of_hugging_face(served: Served) -> None:
    for length in (5, 31):
        ids = tokens(length)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        answer = served.prediction.Predict(predict_request("bert", inputs, "serving_default"))
        np.testing.assert_allclose(
            answer.outputs["logits"].float_val, embeddings()[ids[0]].sum(axis=0), rtol=1e-3, atol=1e-5
        )


@pytest.mark.client(
    "BERT of bert4keras and keras-bert",
    request="Predict `keras-bert`: `Input-Token` and `Input-Segment`, token numbers as float [1,300]",
    answer="`dense` in `float_val`",
)
def test_bert_client_of_keras(served: Served) -> None:
    ids = tokens(300)
    inputs = {"Input-Token": ids.astype(np.float32), "Input-Segment": np.zeros((1, 300), np.float32)}
    answer = served.prediction.Predict(predict_request("keras-bert", inputs), timeout=10)
    np.testing.assert_allclose(
        answer.outputs["dense"].float_val, embeddings()[ids[0]].sum(axis=0), rtol=1e-3, atol=1e-5
    )


@pytest.mark.proves("difference: Batching: requests of different shapes")
@pytest.mark.client(
    "EAST text detector (vitaFlow `grpc_predict.py`), eight threads, `--enable_batching`",
    request="Predict `EAST`, signature `serving_default`: `images` float [1,H,W,3] of mixed sizes; 10 s",
    answer="`f_score` and `f_geometry` at a quarter of each picture's own size; no picture fails for its neighbours",
)
def test_text_detector_client_with_batching(served: Served) -> None:
    sizes = [(256, 256), (320, 512), (512, 320)]

    def detect(number: int) -> None:
        height, width = sizes[number % 3]
        images = np.full((1, height, width, 3), number, np.float32)
        request = predict_request("EAST", {"images": images}, "serving_default")
        answer = served.prediction.Predict(request, timeout=30)
        score, geometry = (tf.make_ndarray(answer.outputs[name]) for name in ("f_score", "f_geometry"))
        assert score.shape == (1, height // 4, width // 4, 1)
        assert geometry.shape == (1, height // 4, width // 4, 5)
        np.testing.assert_allclose(score, number / 255, rtol=1e-5)

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(detect, range(24))) == [None] * 24


@pytest.mark.client(
    "TensorFlow Serving's `mnist_client.py`",
    request="Predict `mnist`, signature `predict_images`: `images` float [1,784]; futures of 5 s with callbacks",
    answer="`scores` in `float_val`",
)
def test_mnist_client(served: Served) -> None:
    labels: dict[int, int] = {}
    done = threading.Semaphore(0)
    for label in range(10):
        image = np.zeros((1, 784), np.float32)
        image[0, label] = 9

        def called_back(future: Any, label: int = label) -> None:
            labels[label] = int(np.argmax(future.result().outputs["scores"].float_val))
            done.release()

        request = predict_request("mnist", {"images": image}, "predict_images")
        served.prediction.Predict.future(request, 5.0).add_done_callback(called_back)
    assert all(done.acquire(timeout=30) for _ in range(10))
    assert labels == {label: label for label in range(10)}


@pytest.mark.client(
    "TensorFlow Serving's `resnet_client_grpc.py` and `resnet_client.cc`",
    request="Predict `resnet`, signature `serving_default`: `input_1` float [1,H,W,3], 0..1, any size,"
    " as content or in `float_val`",
    answer='`outputs["activation_49"].float_val`',
)
def test_resnet_clients(served: Served) -> None:
    request = new_request("resnet", "serving_default")
    picture = np.full((1, 64, 48, 3), 0.25, np.float32)
    request.inputs["input_1"].CopyFrom(tf.make_tensor_proto(picture, shape=picture.shape))
    as_content = served.prediction.Predict(request, timeout=10)
    request.inputs["input_1"].ClearField("tensor_content")
    request.inputs["input_1"].float_val.extend(picture.ravel().tolist())
    in_fields = served.prediction.Predict(request, timeout=10)
    for answer in (as_content, in_fields):
        assert int(np.argmax(answer.outputs["activation_49"].float_val)) == 250


@pytest.mark.client(
    "TensorFlow Serving's `resnet_warmup.py`",
    request="a PredictionLog in `assets.extra/tf_serving_warmup_requests`, written by TFRecordWriter",
    answer="replayed before the version serves",
)
def test_warmup_writer(served: Served) -> None:
    line = served.server.wait_for("Number of warmup records read: 1.")
    assert "/resnet/1" in line


@pytest.mark.proves("rpc PredictionService.GetModelMetadata")
@pytest.mark.client(
    "Kubeflow's Tornado proxy (`http-proxy/server.py`)",
    request="GetModelMetadata `signature_def`, 20 s; then `Predict.future` with `make_tensor_proto(values, dtype)`"
    " by the metadata's types",
    answer="real types and shapes; outputs that are zipped into rows",
)
def test_kubeflow_proxy(served: Served) -> None:
    signatures = signature_map(served, "default")
    ((signature_name, signature),) = (
        (name, found) for name, found in signatures.items() if all(info.dtype for info in found.inputs.values())
    )
    assert [dim.size for dim in signature.inputs["features"].tensor_shape.dim] == [-1, 9]
    instances = [{"keys": [1], "features": [1.0] * 9}, {"keys": [2], "features": [0.0] * 9}]
    request = new_request("default", signature_name)
    for alias, info in signature.inputs.items():
        column = [instance[alias] for instance in instances]
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(column, dtype=tf.as_dtype(info.dtype)))
    answer = served.prediction.Predict.future(request, 10.0).result()
    columns = {alias: tf.make_ndarray(tensor).tolist() for alias, tensor in answer.outputs.items()}
    predictions = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert [row["keys"] for row in predictions] == [[1], [2]]
    np.testing.assert_allclose([row["softmax"] for row in predictions], [two_classes(-0.9), [0.5, 0.5]], rtol=1e-6)


@pytest.mark.proves("rpc PredictionService.Classify")
@pytest.mark.client(
    "Kubeflow's Tornado proxy, `:classify`",
    request="Classify `mnist`: tf.Examples made of a list of instances",
    answer="a label and a score for each class, in the model's order",
)
def test_kubeflow_proxy_classifies(served: Served) -> None:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "mnist"
    for label in (3, 8):
        pixels = [0.0] * 784
        pixels[label] = 5.0
        request.input.example_list.examples.append(example(x=pixels))
    rows = served.prediction.Classify(request, timeout=10).result.classifications
    assert [row.classes[0].label for row in rows] == ["3", "8"]
    assert all(len(row.classes) == 10 and row.classes[0].score > 0.9 for row in rows)


def signature_map(served: Served, model: str) -> Any:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = model
    answer = served.prediction.GetModelMetadata(request, timeout=20)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    return signatures.signature_def
