"""Whole answers, byte by byte, as tensorflow_model_server gives them (but for the date, and X-Model-Version)."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from pyserving.errors import DeadlineExceeded, Internal, ResourceExhausted
from pyserving.frontends import monitoring
from pyserving.frontends.rest import RestApi, RestOptions
from pyserving.metrics import Metrics
from pyserving.protos import SignatureDefMap
from pyserving.signature import DataType, SignatureDef, TensorInfo
from pyserving.types import ManagerState, ServableId, ServableState
from tests.fake_core import FakeCore
from tests.http_conversation import Conversation

METRICS = "/monitoring/prometheus/metrics"
FLOATS = TensorInfo("x:0", DataType.DT_FLOAT, (-1,))
HALF_PLUS_TWO = SignatureDef({"x": FLOATS}, {"y": TensorInfo("y:0", DataType.DT_FLOAT, (-1,))})
SIGNATURES = {"serving_default": HALF_PLUS_TWO, "empty": SignatureDef({}, {})}
PREDICT = "POST /v1/models/m:predict HTTP/1.1"
INSTANCES = b'{"instances": [1.0, 2.0, 5.0]}'
PREDICTIONS = b'{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'
CORS = (
    "Access-Control-Allow-Origin: *\r\n"
    "Access-Control-Allow-Methods: POST, GET\r\n"
    "Access-Control-Allow-Headers: Content-Type\r\n"
)


def half_plus_two(feeds):
    return {"y:0": feeds["x:0"] / np.float32(2) + np.float32(2)}


@pytest.fixture
def core():
    core = FakeCore(SIGNATURES, half_plus_two)
    core.states = [ServableState(ServableId("m", 7), ManagerState.AVAILABLE)]
    core.labels = {"stable": 7}
    return core


@pytest.fixture
def metrics():
    metrics = Metrics()
    metrics.know_model("m")
    return metrics


def conversation(core, metrics, **options):
    api = RestApi(core, metrics, RestOptions(**options))
    return Conversation([monitoring.handler(metrics, METRICS), api], error_response=api.error_response)


@pytest.fixture
async def talk(core, metrics):
    return conversation(core, metrics)


def request(line, body=b"", **headers):
    lines = [line, *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def answer(status, body, *, content_type="application/json", more="", version="1.1"):
    head = (
        f"HTTP/{version} {status}\r\nContent-Type: {content_type}\r\n{more}Date: now\r\nContent-Length: {len(body)}\r\n"
    )
    return f"{head}\r\n".encode() + body


def refusal(status, message, more=""):
    escaped = message.replace("\\", "\\\\").replace('"', '\\"')
    return answer(status, f'{{\n    "error": "{escaped}"\n}}'.encode(), more=more)


def page(status):
    phrase = status.partition(" ")[2]
    body = f"<HTML><HEAD>\n<TITLE>{status}</TITLE>\n</HEAD><BODY>\n<H1>{phrase}</H1>\n</BODY></HTML>\n"
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nDate: now\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    ).encode()


@pytest.mark.proves("rest POST :predict, rows")
async def test_a_prediction_and_the_next_on_the_same_connection(talk):
    for _ in range(3):  # the first time its head is parsed, then it is known
        assert await talk.ask(request(PREDICT, INSTANCES)) == answer(
            "200 OK", PREDICTIONS, more="X-Model-Version: 7\r\n"
        )
    assert not talk.transport.is_closed


@pytest.mark.proves("rest POST :predict, columns")
async def test_columns(talk):
    said = await talk.ask(request(PREDICT, b'{"inputs": {"x": [1, 2]}}'))
    body = b'{\n    "outputs": [\n        2.5,\n        3.0\n    ]\n}'
    assert said == answer("200 OK", body, more="X-Model-Version: 7\r\n")


@pytest.mark.parametrize(
    "line",
    [
        "POST /v1/models/m/versions/7:predict HTTP/1.1",
        "POST /v1/models/m/versions/0007:predict HTTP/1.1",
        "POST /v1/models/m/labels/stable:predict HTTP/1.1",
        "POST /V1/MODELS/m:predict HTTP/1.1",
        "POST /v1/models/%6D:predict HTTP/1.1",
        "POST http://host/v1/models/m:predict HTTP/1.1",
    ],
)
async def test_ways_to_name_a_model(talk, line):
    said = await talk.ask(request(line, INSTANCES))
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert said.endswith(PREDICTIONS)


@pytest.mark.parametrize(
    ("line", "body", "said"),
    [
        (PREDICT, b"", refusal("400 Bad Request", "JSON Parse error: The document is empty")),
        (PREDICT, b"  \n", refusal("400 Bad Request", "JSON Parse error: The document is empty. at offset: 3")),
        (PREDICT, b'{"a":nan}', refusal("400 Bad Request", "JSON Parse error: Invalid value. at offset: 6")),
        (
            PREDICT,
            b'{"instances": [1.0]',
            refusal(
                "400 Bad Request",
                "JSON Parse error: Missing a comma or '}' after an object member. at offset: 19",
            ),
        ),
        (PREDICT, b"{}", refusal("400 Bad Request", "Missing 'inputs' or 'instances' key")),
        (
            PREDICT,
            b'{"signature_name": "no"}',
            refusal("400 Bad Request", 'Serving signature name: "no" not found in signature def'),
        ),
        (
            PREDICT,
            b'{"signature_name": "empty", "instances": [1]}',
            refusal("400 Bad Request", "Failed to get input map for signature: empty"),
        ),
        (
            "POST /v1/models/n:predict HTTP/1.1",
            b"{}",
            refusal("404 Not Found", "Servable not found for request: Latest(n)"),
        ),
        (
            "POST /v1/models/m/versions/3:predict HTTP/1.1",
            INSTANCES,
            refusal("404 Not Found", "Servable not found for request: Specific(m, 3)"),
        ),
        (
            "POST /v1/models/m/labels/x:predict HTTP/1.1",
            INSTANCES,
            refusal("400 Bad Request", "Unrecognized servable version label: x"),
        ),
        (
            "POST /v1/models/m:PREDICT HTTP/1.1",
            INSTANCES,
            refusal("400 Bad Request", "Malformed request: POST /v1/models/m:PREDICT"),
        ),
        (
            "POST /v1/models/m:predict?a=b HTTP/1.1",
            INSTANCES,
            refusal("400 Bad Request", "Malformed request: POST /v1/models/m:predict?a=b"),
        ),
        (
            "PUT /v1/models/m HTTP/1.1",
            b"",
            refusal("400 Bad Request", "Malformed request: PUT /v1/models/m"),
        ),
        (
            "DELETE /v1/models/m#x HTTP/1.1",
            b"",
            refusal("400 Bad Request", "Malformed request: DELETE /v1/models/m#x"),
        ),
        ("POST /v1/models/m/versions/9223372036854775808:predict HTTP/1.1", INSTANCES, answer("400 Bad Request", b"")),
        ("GET /v1/models/m/versions/9223372036854775808 HTTP/1.1", b"", answer("400 Bad Request", b"")),
        ("GET /v1/models/versions/1 HTTP/1.1", b"", refusal("400 Bad Request", "Missing model name in request.")),
        (
            "GET /v1/models/m/metadata?x HTTP/1.1",
            b"",
            refusal("400 Bad Request", "Malformed request: GET /v1/models/m/metadata?x"),
        ),
        (
            "GET /v1/models/n/metadata HTTP/1.1",
            b"",
            refusal("404 Not Found", "Servable not found for request: Latest(n)"),
        ),
        (
            "GET /v1/models/m/labels/x/metadata HTTP/1.1",
            b"",
            refusal("400 Bad Request", "Unrecognized servable version label: x"),
        ),
    ],
)
async def test_refusals_keep_the_connection(talk, line, body, said):
    assert await talk.ask(request(line, body)) == said
    assert await talk.ask(request(PREDICT, INSTANCES)) == answer("200 OK", PREDICTIONS, more="X-Model-Version: 7\r\n")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"GET /v1 HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"GET /v2/models/m HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"GET /statuspage HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"GET //v1/models/m HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", "404 Not Found"),
        (f"GET {METRICS}/ HTTP/1.1\r\n\r\n".encode(), "404 Not Found"),
        (b"GET /v1/models/{m} HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (b"GET /v1/models/\xff HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (b"GET /v1/models/%zz HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (b"POST /v1/models/m:predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400 Bad Request"),
        (b"POST /v1/models/m:predict HTTP/1.1\r\nContent-Length: x\r\n\r\n", "400 Bad Request"),
        (b"TRACE /v1/models/m HTTP/1.1\r\n\r\n", "501 Not Implemented"),
        (b"CONNECT h:1 HTTP/1.1\r\n\r\n", "501 Not Implemented"),
        (b"get /v1/models/m HTTP/1.1\r\n\r\n", "501 Not Implemented"),
        (b"POST /v1/models/m:predict HTTP/1.1\r\nExpect: a miracle\r\n\r\n", "417 Expectation Failed"),
    ],
)
async def test_pages_for_what_reaches_no_handler(talk, text, status):
    assert await talk.ask(text) == page(status)


@pytest.mark.proves("difference: HEAD on a REST path")
async def test_head_has_neither_body_nor_length(talk):
    said = await talk.ask(b"HEAD /v1/models/m HTTP/1.1\r\n\r\n")
    assert said == b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nDate: now\r\n\r\n"


async def test_the_body_of_a_get_is_ignored(talk):
    assert (await talk.ask(request("GET /v1/models/m HTTP/1.1", b"{{{"))).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_connection_close_is_echoed(talk):
    said = await talk.ask(request(PREDICT, INSTANCES, Connection="Close"))
    assert said.endswith(b"Date: now\r\nContent-Length: 43\r\nConnection: close\r\n\r\n" + PREDICTIONS)
    assert talk.transport.is_closed


async def test_http_1_0_ends_with_the_connection(talk):
    said = await talk.ask(request("POST /v1/models/m:predict HTTP/1.0", INSTANCES))
    head = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nX-Model-Version: 7\r\n\r\n"
    assert said == head + PREDICTIONS
    assert talk.transport.is_closed


async def test_http_1_0_may_stay(talk):
    line = "POST /v1/models/m:predict HTTP/1.0"
    said = await talk.ask(request(line, INSTANCES, Connection="keep-alive"))
    assert said == (
        b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nX-Model-Version: 7\r\n"
        b"Content-Length: 43\r\nConnection: keep-alive\r\n\r\n" + PREDICTIONS
    )
    assert not talk.transport.is_closed


async def test_bodies_in_chunks(talk):
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (INSTANCES[:5], INSTANCES[5:]))
    said = await talk.ask(request(PREDICT, Transfer_Encoding="chunked") + chunks + b"0\r\n\r\n")
    assert said.endswith(PREDICTIONS)


async def test_a_careful_client_is_told_to_go_on(talk):
    head = request(PREDICT, Content_Length=len(INSTANCES), Expect="100-continue")
    assert await talk.ask(head) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await talk.ask(INSTANCES)).endswith(PREDICTIONS)
    assert (await talk.ask(head + INSTANCES)).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "my_gzip"])
async def test_gzip_requests(talk, encoding):
    said = await talk.ask(request(PREDICT, gzip.compress(INSTANCES), Content_Encoding=encoding))
    assert said.endswith(PREDICTIONS)


async def test_a_body_that_cannot_be_unpacked_counts_as_empty(talk):
    empty = refusal("400 Bad Request", "JSON Parse error: The document is empty")
    assert await talk.ask(request(PREDICT, INSTANCES, Content_Encoding="gzip")) == empty
    too_large = gzip.compress(bytes((100 << 20) + 1), 1)
    assert await talk.ask(request(PREDICT, too_large, Content_Encoding="gzip")) == empty


async def test_other_encodings_are_ignored(talk):
    assert (await talk.ask(request(PREDICT, INSTANCES, Content_Encoding="br"))).endswith(PREDICTIONS)


@pytest.mark.proves("rest GET status")
async def test_status(talk, core):
    core.states.append(ServableState(ServableId("m", 1), ManagerState.END, Internal('bad <graph> "x"')))
    body = (
        b'{\n "model_version_status": [\n'
        b'  {\n   "version": "7",\n   "state": "AVAILABLE",\n'
        b'   "status": {\n    "error_code": "OK",\n    "error_message": ""\n   }\n  },\n'
        b'  {\n   "version": "1",\n   "state": "END",\n'
        b'   "status": {\n    "error_code": "INTERNAL",\n'
        b'    "error_message": "bad \\u003cgraph\\u003e \\"x\\""\n   }\n  }\n'
        b" ]\n}\n"
    )
    for path in ("/v1/models/m", "/v1/models/m/labels/whatever", "/v1/models/m/METADATA"):
        assert await talk.ask(request(f"GET {path} HTTP/1.1")) == answer("200 OK", body)


async def test_status_of_what_is_not_there(talk, core):
    core.states.clear()
    said = await talk.ask(request("GET /v1/models/n HTTP/1.1"))
    assert said == refusal("404 Not Found", "Could not find any versions of model n")


@pytest.mark.proves("rest GET metadata")
async def test_metadata(talk, core):
    signatures = SignatureDefMap()
    signature = signatures.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    signature.inputs["x"].name = "x:0"
    signature.inputs["x"].dtype = 1
    signature.inputs["x"].tensor_shape.dim.add(size=-1)
    signature.outputs["y<"].tensor_shape.unknown_rank = True
    core.signature_def_map = signatures.SerializeToString()
    body = (
        b'{\n"model_spec":{\n "name": "m",\n "version": "7",\n "signature_name": ""\n}\n,\n'
        b'"metadata": {"signature_def": {\n "signature_def": {\n  "serving_default": {\n'
        b'   "inputs": {\n    "x": {\n     "name": "x:0",\n     "dtype": "DT_FLOAT",\n     "tensor_shape": {\n'
        b'      "dim": [\n       {\n        "size": "-1",\n        "name": ""\n       }\n      ],\n'
        b'      "unknown_rank": false\n     }\n    }\n   },\n'
        b'   "outputs": {\n    "y\\u003c": {\n     "dtype": "DT_INVALID",\n     "tensor_shape": {\n'
        b'      "dim": [],\n      "unknown_rank": true\n     }\n    }\n   },\n'
        b'   "method_name": "tensorflow/serving/predict",\n   "defaults": {}\n  }\n }\n}\n}\n}\n'
    )
    said = await talk.ask(request("GET /v1/models/m/metadata HTTP/1.1"))
    assert said == answer("200 OK", body, more="X-Model-Version: 7\r\n")


@pytest.mark.proves("rest OPTIONS")
@pytest.mark.parametrize("path", ["/v1/models/m:predict", "/v1/whatever"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Origin": "http://a"}, "200 OK"), ({"Origin": "https://a"}, "200 OK"), ({}, "400 Bad Request")],
)
async def test_preflight(talk, path, headers, status):
    said = await talk.ask(request(f"OPTIONS {path} HTTP/1.1", **headers))
    assert said == answer(status, b"", content_type="text/html; charset=ISO-8859-1")


async def test_cors_headers_are_on_every_rest_answer_when_asked_for(core, metrics):
    talk = conversation(core, metrics, enable_cors_support=True)
    said = await talk.ask(request(PREDICT, INSTANCES))
    assert said == answer("200 OK", PREDICTIONS, more=CORS + "X-Model-Version: 7\r\n")
    said = await talk.ask(request("GET /v1/models/n/metadata HTTP/1.1"))
    assert said == refusal("404 Not Found", "Servable not found for request: Latest(n)", CORS)
    said = await talk.ask(request("OPTIONS /v1/ HTTP/1.1", Origin="http://a"))
    assert said == answer("200 OK", b"", content_type="text/html; charset=ISO-8859-1", more=CORS)
    assert b"Access-Control" not in await talk.ask(request(f"GET {METRICS} HTTP/1.1"))
    assert b"Access-Control" not in await talk.ask(request("GET /nowhere HTTP/1.1"))


@pytest.mark.proves("rest GET metrics")
async def test_metrics_page(talk):
    for method in ("GET", "POST", "DELETE"):
        said = await talk.ask(request(f"{method} {METRICS} HTTP/1.1"))
        assert said.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: now\r\n")
    sentence = f"Unexpected path: {METRICS}?x=1. Should be {METRICS}".encode()
    said = await talk.ask(request(f"GET {METRICS}?x=1 HTTP/1.1"))
    assert said == answer("400 Bad Request", sentence, content_type="text/plain")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DeadlineExceeded("Timed out waiting for notification"), "504 Gateway Time-out"),
        (ResourceExhausted("no"), "429 Client Error"),
        (Internal("no"), "500 Internal Server Error"),
    ],
)
async def test_errors_of_the_run_keep_code_and_message(core, metrics, error, status):
    def fail(feeds):
        raise error

    talk = conversation(FakeCore(SIGNATURES, fail), metrics)
    assert await talk.ask(request(PREDICT, INSTANCES)) == refusal(status, error.message)


async def test_what_cannot_be_admitted_is_refused_in_json(core, metrics):
    api = RestApi(core, metrics, RestOptions(enable_cors_support=True))
    talk = Conversation([api], error_response=api.error_response)
    talk.admission.enter(1 << 30)
    said = await talk.ask(request(PREDICT, INSTANCES))
    assert said.startswith(b"HTTP/1.1 429 Client Error\r\nContent-Type: application/json\r\nAccess-Control")
    assert b"--max_inflight_bytes" in said
    assert not talk.transport.is_closed


def series(metrics, family):
    return {
        line
        for line in metrics.exposition().decode().splitlines()
        if line.startswith(f":tensorflow:serving:{family}{{") or f":{family}_count{{" in line
    }


@pytest.mark.proves(
    "metric :tensorflow:serving:request_count",
    "metric :tensorflow:serving:request_latency",
    "metric :tensorflow:serving:runtime_latency",
)
async def test_what_is_counted(talk, metrics):
    await talk.ask(request(PREDICT, INSTANCES))
    await talk.ask(request(PREDICT, b"["))
    await talk.ask(request("GET /v1/models/m HTTP/1.1"))
    await talk.ask(request("GET /v1/models/a%ff/metadata HTTP/1.1"))
    await talk.ask(request("OPTIONS /v1/models/m HTTP/1.1", Origin="http://a"))
    await talk.ask(request("OPTIONS /v1/models/m HTTP/1.1"))
    await talk.ask(request("PUT /v1/models/m HTTP/1.1"))
    await talk.ask(request(f"GET {METRICS} HTTP/1.1"))
    assert series(metrics, "request_count") == {
        ':tensorflow:serving:request_count{model_name="m",status="OK"} 2',
        ':tensorflow:serving:request_count{model_name="m",status="INVALID_ARGUMENT"} 1',
        ':tensorflow:serving:request_count{model_name="a\ufffd",status="NOT_FOUND"} 1',
        ':tensorflow:serving:request_count{model_name="",status="OK"} 1',
        ':tensorflow:serving:request_count{model_name="",status="FAILED_PRECONDITION"} 1',
        ':tensorflow:serving:request_count{model_name="",status="INVALID_ARGUMENT"} 1',
    }
    assert series(metrics, "request_latency") == {
        ':tensorflow:serving:request_latency_count{model_name="m",API="predict",entrypoint="REST"} 1',
        ':tensorflow:serving:request_latency_count{model_name="m",API="",entrypoint="REST"} 1',
        ':tensorflow:serving:request_latency_count{model_name="",API="",entrypoint="REST"} 1',
    }
    assert series(metrics, "runtime_latency") == {
        ':tensorflow:serving:runtime_latency_count{model_name="m",API="Predict",runtime="TF1"} 1'
    }
