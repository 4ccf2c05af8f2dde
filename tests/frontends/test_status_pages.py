from __future__ import annotations

import json

import pytest

from pyserving.errors import Internal, NotFound
from pyserving.frontends import status_pages
from pyserving.messages import HttpRequest
from pyserving.types import ManagerState, ServableId, ServableState


class Core:
    """States of models as the core tells them, and what was asked of it."""

    def __init__(self):
        self.states = {}
        self.configured = []
        self.unready = None
        self.specs = []

    def set(self, name, version, manager_state, health=None):
        self.states.setdefault(name, {})[version] = ServableState(
            ServableId(name, version), ManagerState[manager_state], health
        )

    def model_status(self, spec):
        self.specs.append(spec)
        states = [state for _, state in sorted(self.states.get(spec.name, {}).items(), reverse=True)]
        if spec.version is not None:
            states = [state for state in states if state.id.version == spec.version]
        if not states:
            raise NotFound(f"Could not find any versions of model {spec.name}")
        return states


@pytest.fixture
def core():
    return Core()


@pytest.fixture
def get(core):
    page = status_pages.handler(core.model_status, lambda: core.configured, lambda: core.unready)

    async def get(path, query="", method="GET"):
        return await page(HttpRequest(method, path, query))

    return get


async def test_healthz_answers_whatever_the_models_do(core, get):
    core.unready = "starting"
    for method in ("GET", "HEAD"):
        assert (await get("/healthz", method=method)).status == 200


async def test_readyz_is_200_when_every_model_has_an_available_version(core, get):
    core.configured = ["m", "n"]
    core.set("m", 1, "AVAILABLE")
    core.set("m", 2, "LOADING")
    core.set("n", 5, "AVAILABLE")
    response = await get("/readyz")
    assert response.status == 200
    assert json.loads(response.body) == {"ready": True, "models": {"m": "AVAILABLE", "n": "AVAILABLE"}}


async def test_readyz_says_what_is_missing(core, get):
    core.configured = ["m", "n", "o"]
    core.set("m", 1, "AVAILABLE")
    core.set("n", 2, "LOADING", Internal("bad graph"))
    response = await get("/readyz")
    assert response.status == 503
    assert json.loads(response.body) == {
        "ready": False,
        "models": {"m": "AVAILABLE", "n": "version 2 is LOADING: INTERNAL: bad graph", "o": "no version found"},
    }


async def test_readyz_is_503_while_the_server_as_a_whole_is_not_ready(core, get):
    core.unready = "shutting down"
    core.configured = ["m"]
    core.set("m", 1, "AVAILABLE")
    for path in ("/readyz", "/readyz/m"):
        response = await get(path)
        assert response.status == 503
        assert json.loads(response.body)["reason"] == "shutting down"


async def test_readyz_of_one_model_looks_at_it_alone(core, get):
    core.configured = ["a/b", "n"]
    core.set("a/b", 1, "AVAILABLE")
    assert (await get("/readyz/a%2Fb")).status == 200
    assert (await get("/readyz/n")).status == 503
    response = await get("/readyz/nobody")
    assert response.status == 404
    assert json.loads(response.body) == {"error": "Could not find any versions of model nobody"}


async def test_a_models_status_has_the_layout_of_protobufs_printer(core, get):
    core.set("m", 1, "END", Internal('bad <graph> "x"'))
    core.set("m", 123, "AVAILABLE")
    response = await get("/v1/models/m")
    assert response.status == 200
    assert response.content_type == "application/json"
    assert response.body.decode() == (
        '{\n "model_version_status": [\n'
        '  {\n   "version": "123",\n   "state": "AVAILABLE",\n'
        '   "status": {\n    "error_code": "OK",\n    "error_message": ""\n   }\n  },\n'
        '  {\n   "version": "1",\n   "state": "END",\n'
        '   "status": {\n    "error_code": "INTERNAL",\n'
        '    "error_message": "bad \\u003cgraph\\u003e \\"x\\""\n   }\n  }\n'
        " ]\n}\n"
    )


@pytest.mark.parametrize(
    ("path", "query", "spec"),
    [
        ("/v1/models/m", "", ("m", None, None)),
        ("/V1/MODELS/M/Versions/007", "", ("M", 7, None)),
        ("/v1/models/m/versions/0", "", ("m", 0, None)),
        ("/v1/models/m/labels/stable%20", "", ("m", None, "stable ")),
        ("/v1/models/a%2Fb%3Ac", "", ("a/b:c", None, None)),
        ("/v1/models/a+b", "", ("a+b", None, None)),
        ("/v1/models/m", "x=1", ("m?x=1", None, None)),
        ("/v1/models/metadata", "", ("metadata", None, None)),
        ("/v1/models/versions", "", ("versions", None, None)),
        ("/v1/models/m/METADATA", "", ("m", None, None)),
        ("/v1/models/m/versions/9223372036854775807", "", ("m", 2**63 - 1, None)),
        ("/v1/models/m/versions/" + "0" * 5000 + "1", "", ("m", 1, None)),
    ],
)
async def test_it_reads_the_path(core, get, path, query, spec):
    await get(path, query)
    (asked,) = core.specs
    assert (asked.name, asked.version, asked.version_label) == spec


async def test_an_unknown_model_is_404_with_the_cores_sentence(get):
    response = await get("/v1/models/m")
    assert response.status == 404
    assert response.body == b'{\n    "error": "Could not find any versions of model m"\n}'


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/versions/1", "/v1/models/labels/x"])
async def test_a_missing_name_is_missed(get, path):
    response = await get(path)
    assert response.status == 400
    assert json.loads(response.body) == {"error": "Missing model name in request."}


@pytest.mark.parametrize("version", ["9223372036854775808", "9" * 5000])
async def test_a_version_too_large_is_400_without_a_word(get, version):
    response = await get(f"/v1/models/m/versions/{version}")
    assert (response.status, response.body, response.content_type) == (400, b"", "application/json")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/models/m/metadata",
        "/v1/models/m:predict",
        "/v1/models/m/",
        "/v1/models/m/versions/x",
        "/health",
    ],
)
async def test_other_paths_are_not_its_own(get, path):
    assert await get(path) is None


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_other_methods_are_not_its_own(get, method):
    assert await get("/v1/models/m", method=method) is None
    assert await get("/readyz", method=method) is None
