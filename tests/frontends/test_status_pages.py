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

    def get(path, tail="", method="GET"):
        return page(HttpRequest(method, path, tail))

    return get


@pytest.mark.proves("difference: `/healthz`, `/readyz`, `/readyz/MODEL`, `/openapi.json`")
def test_healthz_answers_whatever_the_models_do(core, get):
    core.unready = "starting"
    for method in ("GET", "HEAD"):
        assert (get("/healthz", method=method)).status == 200


def test_readyz_is_200_when_every_model_has_an_available_version(core, get):
    core.configured = ["m", "n"]
    core.set("m", 1, "AVAILABLE")
    core.set("m", 2, "LOADING")
    core.set("n", 5, "AVAILABLE")
    response = get("/readyz")
    assert response.status == 200
    assert json.loads(response.body) == {"ready": True, "models": {"m": "AVAILABLE", "n": "AVAILABLE"}}


@pytest.mark.proves("difference: `/healthz`, `/readyz`, `/readyz/MODEL`, `/openapi.json`")
def test_readyz_says_what_is_missing(core, get):
    core.configured = ["m", "n", "o"]
    core.set("m", 1, "AVAILABLE")
    core.set("n", 2, "LOADING", Internal("bad graph"))
    response = get("/readyz")
    assert response.status == 503
    assert json.loads(response.body) == {
        "ready": False,
        "models": {"m": "AVAILABLE", "n": "version 2 is LOADING: INTERNAL: bad graph", "o": "no version found"},
    }


def test_readyz_is_503_while_the_server_as_a_whole_is_not_ready(core, get):
    core.unready = "shutting down"
    core.configured = ["m"]
    core.set("m", 1, "AVAILABLE")
    for path in ("/readyz", "/readyz/m"):
        response = get(path)
        assert response.status == 503
        assert json.loads(response.body)["reason"] == "shutting down"


@pytest.mark.proves("difference: `/healthz`, `/readyz`, `/readyz/MODEL`, `/openapi.json`")
def test_readyz_of_one_model_looks_at_it_alone(core, get):
    core.configured = ["a/b", "n"]
    core.set("a/b", 1, "AVAILABLE")
    assert (get("/readyz/a%2Fb")).status == 200
    assert (get("/readyz/n")).status == 503
    response = get("/readyz/nobody")
    assert response.status == 404
    assert json.loads(response.body) == {"error": "Could not find any versions of model nobody"}


@pytest.mark.parametrize("path", ["/", "/health", "/healthz/", "/v1/models/m"])
def test_other_paths_are_not_its_own(get, path):
    assert get(path) is None


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_methods_are_not_its_own(get, method):
    assert get("/readyz", method=method) is None
