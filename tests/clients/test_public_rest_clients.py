"""What public REST clients of TensorFlow Serving send, by the standard library, curl and bare sockets.

Each client is restated as its source has it: paths, headers, bodies. `docs/clients.md` is made of the marks.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.clients.conftest import Serve, Served
from tests.clients.stand_ins import embeddings, softmax

pytestmark = pytest.mark.slow


@pytest.fixture
def served(serve: Serve) -> Served:
    return serve("http2")


def post(served: Served, path: str, body: Any) -> Any:
    """The document in the answer, as `requests.post(url, json=body).json()` gives it."""
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(served.url + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


@pytest.mark.client(
    "text-antispam, the gateway of the second generation",
    request='POST `/v1/models/saved_model:predict` `{"instances": sample.tolist()}`: the only input is not named,'
    " numbers have 17 digits",
    answer="`['predictions']`, a list of rows, as there is one output only",
)
def test_antispam_gateway(served: Served) -> None:
    sample = np.random.default_rng(3).random((2, 20, 200))
    predictions = post(served, "/v1/models/saved_model:predict", {"instances": sample.tolist()})["predictions"]
    expected = softmax(sample[:, :, :2].sum(axis=1))
    np.testing.assert_allclose(predictions, expected, rtol=1e-4)
    assert [int(np.argmax(row)) for row in predictions] == expected.argmax(axis=1).tolist()


@pytest.mark.client(
    "BERT as google-research exports it, over REST by curl",
    request='`curl -d \'{"inputs": {"label_ids": […], "input_ids": [[…]], …}}\'`, column by column',
    answer="`['outputs']['probabilities']`",
)
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_bert_by_curl(served: Served) -> None:
    columns = {"label_ids": [0], "input_ids": [[7] * 128], "input_mask": [[1] * 128], "segment_ids": [[0] * 128]}
    command = ["curl", "--silent", "--fail", "-d", json.dumps({"inputs": columns})]
    url = f"{served.url}/v1/models/bert_google:predict"
    done = subprocess.run([*command, url], capture_output=True, check=True)
    probabilities = json.loads(done.stdout)["outputs"]["probabilities"]
    np.testing.assert_allclose(probabilities, softmax(embeddings()[[7]] * 128), atol=1e-5)


@pytest.mark.client(
    "BERT as the Hugging Face blog calls it, over REST",
    request='POST `/v1/models/bert:predict` `{"instances": [dict(input_ids=…, attention_mask=…, token_type_ids=…)]}`',
    answer="`['predictions'][0]`, the logits",
)
def test_bert_row_by_row(served: Served) -> None:
    row = {"input_ids": [5, 6, 7], "attention_mask": [1, 1, 0], "token_type_ids": [0, 0, 0]}
    (logits,) = post(served, "/v1/models/bert:predict", {"instances": [row]})["predictions"]
    np.testing.assert_allclose(logits, embeddings()[[5, 6]].sum(axis=0), rtol=1e-4)


@pytest.mark.client(
    "bert-as-service",
    request="POST `/encode`, a protocol of its own; here sentences go to `/v1/models/encoder:predict`",
    answer="404 for `/encode`; strings in and vectors out in one call where the graph holds the tokenizer",
)
def test_sentences_are_encoded(served: Served) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(served, "/encode", {"id": 123, "texts": ["hello world"], "is_tokenized": False})
    with refused.value as answer:
        assert answer.code == 404
    vectors = post(served, "/v1/models/encoder:predict", {"instances": ["hello world", "你好"]})["predictions"]
    assert vectors == [[11.0, 2.0, 1.0], [6.0, 1.0, 1.0]]


@pytest.mark.client(
    "TensorFlow Serving's `resnet_client.py`, pictures as numbers",
    request='POST `{"instances": [[[[r, g, b], …]]]}`, a whole photo of 256×256 in 3 MB of JSON',
    answer="`['predictions'][0]`",
)
def test_photo_as_numbers(served: Served) -> None:
    photo = np.random.default_rng(11).random((1, 256, 256, 3))
    (scores,) = post(served, "/v1/models/resnet:predict", {"instances": photo.tolist()})["predictions"]
    assert int(np.argmax(scores)) == round(float(photo.mean()) * 1000)


@pytest.mark.client(
    "TensorFlow Serving's `resnet_client.py`, pictures as JPEG",
    request='POST `{"instances": [{"b64": "…"}]}` to a model of one string input',
    answer="`['predictions'][0]['classes']`",
)
def test_photo_as_jpeg(served: Served) -> None:
    jpeg = tf.io.encode_jpeg(np.full((32, 32, 3), (0, 200, 0), np.uint8)).numpy()
    body = {"instances": [{"b64": base64.b64encode(jpeg).decode()}]}
    (prediction,) = post(served, "/v1/models/mobilenet:predict", body)["predictions"]
    assert prediction["classes"] == 1


@pytest.mark.client(
    "simple_tensorflow_serving's scripts for TensorFlow Serving",
    request='POST `/v1/models/default:predict` and `…/versions/1:predict`, `{"instances": [{"keys": 1, "features":'
    " […]}]}`: `keys` a bare number for a placeholder of [-1,1]",
    answer="rows of `keys`, `softmax`, `prediction`, of the version that was asked",
)
def test_rows_with_bare_numbers(served: Served) -> None:
    body = {"instances": [{"keys": 1, "features": [1.0] * 9}, {"keys": 2, "features": [-1.0] * 9}]}
    latest = post(served, "/v1/models/default:predict", body)["predictions"]
    first = post(served, "/v1/models/default/versions/1:predict", body)["predictions"]
    assert [row["keys"] for row in latest] == [1, 2]
    assert [row["prediction"] for row in latest] == [0, 1]
    assert [row["prediction"] for row in first] == [1, 0]


@pytest.mark.client(
    "simple_tensorflow_serving's clients of picture models",
    request='POST `{"instances": [{"images": "<web-safe base64>"}]}`, a plain string that the graph decodes',
    answer="the string reaches the model as it is",
)
def test_base64_for_the_graph(served: Served) -> None:
    picture = bytes([0xFB, 0xEF, 0xFF]) * 5  # whose base64 has the letters that are not safe in URLs
    text = base64.urlsafe_b64encode(picture).decode()
    assert "-" in text
    assert "_" in text
    (size,) = post(served, "/v1/models/pictures:predict", {"instances": [{"images": text}]})["predictions"]
    assert size == len(picture)


@pytest.mark.client(
    "ApacheBench: `ab -n … -c … -T application/json -p FILE URL`",
    request="POST over HTTP/1.0, a connection each, no keep-alive",
    answer="200 and the end of the connection",
)
def test_apache_bench(served: Served) -> None:
    body = json.dumps({"instances": [{"keys": 1, "features": [0.0] * 9}]}).encode()
    head = (
        "POST /v1/models/default:predict HTTP/1.0\r\n"
        f"Content-length: {len(body)}\r\nContent-type: application/json\r\n"
        f"Host: 127.0.0.1:{served.rest_port}\r\nUser-Agent: ApacheBench/2.3\r\nAccept: */*\r\n\r\n"
    )
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", served.rest_port), timeout=60) as connection:
            connection.sendall(head.encode() + body)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        said, _, document = answer.partition(b"\r\n\r\n")
        assert said.split(b" ", 2)[1] == b"200"
        assert json.loads(document)["predictions"][0]["softmax"] == [0.5, 0.5]
