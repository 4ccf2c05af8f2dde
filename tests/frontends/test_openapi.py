from __future__ import annotations

import json

import numpy as np
import pytest

from pyserving.frontends import openapi
from pyserving.messages import HttpRequest
from pyserving.signature import DataType, SignatureDef, TensorInfo
from pyserving.types import ManagerState, ServableId, ServableState
from tests.fake_core import FakeCore

SIGNATURES = {
    "serving_default": SignatureDef(
        {"x": TensorInfo("x:0", DataType.DT_FLOAT, (-1, 3))}, {"y": TensorInfo("y:0", DataType.DT_FLOAT, (-1,))}
    ),
    "two": SignatureDef(
        {"a": TensorInfo("a:0", DataType.DT_INT64, None), "b": TensorInfo("b:0", DataType.DT_STRING, (-1,))},
        {"y": TensorInfo("y:0", DataType.DT_FLOAT, (-1,))},
    ),
    "regress": SignatureDef(
        {"inputs": TensorInfo("i:0", DataType.DT_STRING, (-1,))},
        {"outputs": TensorInfo("o:0", DataType.DT_FLOAT, (-1,))},
    ),
    "__init": SignatureDef({}, {}),
}


@pytest.fixture
def core():
    core = FakeCore(SIGNATURES, lambda feeds: {"y:0": np.zeros(1, np.float32)})
    core.states = [ServableState(ServableId("m", 7), ManagerState.AVAILABLE)]
    return core


@pytest.fixture
def document(core):
    response = openapi.handler(core)(HttpRequest("GET", "/openapi.json"))
    assert (response.status, response.content_type) == (200, "application/json")
    return json.loads(response.body)


def resolved(document, path):
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return body["anyOf"]


@pytest.mark.proves("difference: `/healthz`, `/readyz`, `/readyz/MODEL`, `/openapi.json`")
def test_it_lists_what_each_model_can_be_asked(document):
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) == {
        "/v1/models",
        "/v1/models/m",
        "/v1/models/m/metadata",
        "/v1/models/m:predict",
        "/v1/models/m/versions/{version}:predict",
        "/v1/models/m:regress",
        "/v1/models/m/versions/{version}:regress",
        "/healthz",
        "/readyz",
    }


def test_a_body_holds_rows_or_columns_of_each_signature(document):
    default, two, _ = resolved(document, "/v1/models/m:predict")
    rows, columns = default["oneOf"]
    row = {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}
    assert rows["properties"]["instances"]["items"]["anyOf"][0] == row
    assert columns["properties"]["inputs"]["anyOf"][0] == {"type": "array", "items": row}
    assert rows["required"] == ["instances"]
    named = two["oneOf"][0]
    assert named["required"] == ["signature_name", "instances"]
    assert named["properties"]["signature_name"] == {"const": "two"}
    assert named["properties"]["instances"]["items"]["required"] == ["a", "b"]
    assert named["properties"]["instances"]["items"]["properties"]["a"] == {}


def test_a_name_is_escaped_in_its_path(core):
    core.model_names = ["a/b"]
    assert "/v1/models/a%2Fb" in openapi.document(core)["paths"]


def test_a_model_that_does_not_serve_has_its_status_alone(core):
    core.states = [ServableState(ServableId("m", 7), ManagerState.LOADING)]
    paths = openapi.document(core)["paths"]
    assert "/v1/models/m" in paths
    assert "/v1/models/m:predict" not in paths


@pytest.mark.parametrize(("method", "path"), [("POST", "/openapi.json"), ("GET", "/openapi"), ("GET", "/v1/models")])
def test_other_requests_are_not_its_own(core, method, path):
    assert openapi.handler(core)(HttpRequest(method, path)) is None
