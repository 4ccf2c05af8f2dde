"""Five trained models in one process, asked by the unmodified client; the answers are checked for what they mean."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

MODELS = os.environ.get("PYSERVING_TEST_MODELS", "")
NAMES = ("basic_pitch", "deepcut", "guesslang", "movenet_lightning", "selfie")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MODELS, reason="PYSERVING_TEST_MODELS names no folder of trained models"),
]

if MODELS:
    import tensorflow as tf
    from tensorflow_serving.apis import get_model_metadata_pb2

    from tests.end_to_end.client_requests import examples_request, outputs, predict_request, status_request
    from tests.end_to_end.server_process import Client, ServerProcess, free_port


@pytest.fixture(scope="module")
def rest_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, rest_port: int) -> Iterator[Client]:
    config = tmp_path_factory.mktemp("config") / "models.config"
    entries = "\n".join(
        f'config {{ name: "{name}", base_path: "{Path(MODELS) / name}", model_platform: "tensorflow" }}'
        for name in NAMES
    )
    config.write_text(f"model_config_list {{\n{entries}\n}}\n")
    flags = (f"--model_config_file={config}", f"--rest_api_port={rest_port}")
    with ServerProcess(*flags) as server, Client(server) as made:
        yield made


def test_all_are_available(client: Client) -> None:
    for name in NAMES:
        (status,) = client.model.GetModelStatus(status_request(name), timeout=30).model_version_status
        assert (status.version, status.state, status.status.error_code) == (1, 30, 0), name


@pytest.mark.parametrize(("hertz", "column"), [(440.0, 48), (261.63, 39)])
def test_basic_pitch_hears_the_note(client: Client, hertz: float, column: int) -> None:
    seconds = np.arange(43844) / 22050
    audio = np.sin(2 * np.pi * hertz * seconds).astype(np.float32).reshape(1, -1, 1)
    response = client.prediction.Predict(predict_request("basic_pitch", {"input_2": audio}), timeout=60)
    answer = outputs(response)
    assert answer["note"].shape == (1, 172, 88)
    assert answer["contour"].shape == (1, 172, 264)
    assert int(answer["note"].mean(axis=(0, 1)).argmax()) == column


SNIPPETS = {
    "py": "import os\nfrom pathlib import Path\n\ndef main(argv):\n    for name in os.listdir('.'):\n"
    "        print(f'{name}: {len(name)}')\n\nif __name__ == '__main__':\n    main([])\n",
    "c": "#include <stdio.h>\n#include <stdlib.h>\n\nint main(int argc, char **argv) {\n    int *p = malloc(4);\n"
    '    printf("%d\\n", argc);\n    free(p);\n    return 0;\n}\n',
    "go": 'package main\n\nimport (\n\t"fmt"\n\t"os"\n)\n\nfunc main() {\n\tfor _, a := range os.Args {\n'
    "\t\tfmt.Println(a)\n\t}\n\tdefer func() { recover() }()\n}\n",
}


def test_guesslang_names_the_language_by_predict_and_classify(client: Client) -> None:
    texts = list(SNIPPETS.values())
    request = predict_request("guesslang", {"content": np.array(texts, object)}, "predict")
    predicted = outputs(client.prediction.Predict(request, timeout=60))
    assert [label.decode() for label in predicted["classes"].ravel()] == list(SNIPPETS)
    scores = outputs(
        client.prediction.Predict(
            predict_request("guesslang", {"inputs": np.array(texts, object)}, "serving_default"), timeout=60
        )
    )
    best = scores["scores"].argmax(axis=1)
    assert [scores["classes"][row, column].decode() for row, column in enumerate(best)] == list(SNIPPETS)


def test_guesslang_classifies_what_its_graph_takes_for_text(client: Client) -> None:
    request = examples_request("guesslang", [tf.train.Example()], "classification")
    response = client.prediction.Classify(request, timeout=60)
    (row,) = response.result.classifications
    assert len(row.classes) > 10
    assert abs(sum(c.score for c in row.classes) - 1) < 1e-3
    assert response.model_spec.signature_name == "classification"


def test_guesslang_has_nothing_to_regress_with(client: Client) -> None:
    request = examples_request("guesslang", [tf.train.Example()], "classification", "regress")
    with pytest.raises(grpc.RpcError) as raised:
        client.prediction.Regress(request, timeout=60)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details() == "Expected one output Tensor."


def test_deepcut_answers_a_batch_as_it_answers_single_rows(client: Client) -> None:
    random = np.random.default_rng(5)
    chars = random.integers(0, 60, (4, 21)).astype(np.int32)
    types = random.integers(0, 8, (4, 21)).astype(np.int32)

    def word_start(rows: slice) -> np.ndarray:
        request = predict_request("deepcut", {"chars": chars[rows], "types": types[rows]})
        return outputs(client.prediction.Predict(request, timeout=60))["word_start"]

    together = word_start(slice(None))
    assert ((together >= 0) & (together <= 1)).all()
    alone = np.concatenate([word_start(slice(i, i + 1)) for i in range(4)])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_movenet_finds_points_and_refuses_two_pictures(client: Client) -> None:
    picture = np.random.default_rng(1).integers(0, 255, (1, 192, 192, 3)).astype(np.int32)
    response = client.prediction.Predict(predict_request("movenet_lightning", {"input": picture}), timeout=60)
    points = outputs(response)["output_0"]
    assert points.shape == (1, 1, 17, 3)
    assert np.isfinite(points).all()
    assert ((points >= -0.5) & (points <= 1.5)).all()
    with pytest.raises(grpc.RpcError) as raised:
        client.prediction.Predict(
            predict_request("movenet_lightning", {"input": np.repeat(picture, 2, axis=0)}), timeout=60
        )
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_selfie_masks(client: Client) -> None:
    picture = np.random.default_rng(1).random((1, 256, 256, 3), np.float32)
    response = client.prediction.Predict(predict_request("selfie", {"image": picture}), timeout=60)
    mask = outputs(response)["mask"]
    assert mask.shape == (1, 256, 256, 1)
    assert ((mask >= 0) & (mask <= 1)).all()


@pytest.mark.client(
    "Kubeflow's Tornado proxy, before a trained model",
    request="GetModelMetadata of `deepcut`, then Predict with the types that it tells",
    answer="types and shapes from the metadata make a request that is answered",
)
def test_metadata_are_enough_to_ask(client: Client) -> None:
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "deepcut"
    packed = client.prediction.GetModelMetadata(metadata, timeout=20).metadata["signature_def"]
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert packed.Unpack(signatures)
    signature = signatures.signature_def["serving_default"]
    columns = {
        alias: np.ones([3, *(dim.size for dim in info.tensor_shape.dim[1:])], tf.as_dtype(info.dtype).as_numpy_dtype)
        for alias, info in signature.inputs.items()
    }
    assert {array.shape for array in columns.values()} == {(3, 21)}
    answer = outputs(client.prediction.Predict(predict_request("deepcut", columns), timeout=60))
    assert set(answer) == set(signature.outputs)
    assert len(set(answer["word_start"].tolist())) == 1, "three rows alike are answered alike"


@pytest.mark.client(
    "TensorFlow Serving's `resnet_client.py`, before a trained model",
    request='POST `{"instances": [[[[r, g, b], …]]]}` to `selfie`, a photo of 256×256',
    answer="the mask that gRPC gives for the same picture",
)
def test_a_photo_over_rest_is_masked_as_over_grpc(client: Client, rest_port: int) -> None:
    picture = np.random.default_rng(1).random((1, 256, 256, 3)).round(4)
    url = f"http://127.0.0.1:{rest_port}/v1/models/selfie:predict"
    body = json.dumps({"instances": picture.tolist()}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as answer:
        (mask,) = json.loads(answer.read())["predictions"]
    request = predict_request("selfie", {"image": picture.astype(np.float32)})
    np.testing.assert_allclose(
        mask, outputs(client.prediction.Predict(request, timeout=60))["mask"][0], rtol=1e-4, atol=1e-6
    )
