from __future__ import annotations

import pytest

from pyserving.frontends.rest.routes import Endpoint, route
from pyserving.types import ModelSpec


@pytest.mark.parametrize(
    ("target", "endpoint", "spec"),
    [
        ("/v1/models/m:predict", "PREDICT", ModelSpec("m")),
        ("/v1/models/m:classify", "CLASSIFY", ModelSpec("m")),
        ("/v1/models/m:regress", "REGRESS", ModelSpec("m")),
        ("/v1/models/m/versions/3:predict", "PREDICT", ModelSpec("m", 3)),
        ("/v1/models/m/versions/007:predict", "PREDICT", ModelSpec("m", 7)),
        ("/v1/models/m/labels/canary:predict", "PREDICT", ModelSpec("m", None, "canary")),
        ("/V1/Models/M/Versions/1:predict", "PREDICT", ModelSpec("M", 1)),
        ("/v1/models/M/LABELS/Canary:predict", "PREDICT", ModelSpec("M", None, "Canary")),
        ("/v1/models/a%2Fb%3Ac%3Fd:predict", "PREDICT", ModelSpec("a/b:c?d")),
        ("/v1/models/a+b:predict", "PREDICT", ModelSpec("a+b")),
        ("/v1/models/m/labels/a%2fb%20:predict", "PREDICT", ModelSpec("m", None, "a/b ")),
        ("/v1/models/m?x=1:predict", "PREDICT", ModelSpec("m?x=1")),
        ("/v1/models/versions:predict", "PREDICT", ModelSpec("versions")),
        ("/v1/models/m:PREDICT", "MALFORMED", ModelSpec("m")),
        ("/v1/models/m:predict?x=1", "MALFORMED", ModelSpec("")),
        ("/v1/models/m:predict#x", "MALFORMED", ModelSpec("")),
        ("/v1/models/m:predict/", "MALFORMED", ModelSpec("")),
        ("/v1/models/m:explain", "MALFORMED", ModelSpec("")),
        ("/v1/models/m", "MALFORMED", ModelSpec("")),
        ("/v1/models/:predict", "MALFORMED", ModelSpec("")),
        ("/v1/models:predict", "MALFORMED", ModelSpec("")),
        ("/v1/models/m/versions/x:predict", "MALFORMED", ModelSpec("")),
        ("/v1/models/m/versions/-1:predict", "MALFORMED", ModelSpec("")),
        ("/v1/models/m/versions/1/labels/x:predict", "MALFORMED", ModelSpec("")),
        ("/v1/models/a/b:predict", "MALFORMED", ModelSpec("")),
        ("/v1/models/m/versions/9223372036854775807:predict", "PREDICT", ModelSpec("m", 2**63 - 1)),
        ("/v1/models/m/versions/9223372036854775808:predict", "VERSION_TOO_LARGE", ModelSpec("m")),
        ("/v1/models/m/versions/" + "9" * 5000 + ":predict", "VERSION_TOO_LARGE", ModelSpec("m")),
        ("/v1/models/m/versions/" + "0" * 5000 + "1:predict", "PREDICT", ModelSpec("m", 1)),
    ],
)
def test_a_post_runs_a_model(target, endpoint, spec):
    found = route("POST", target)
    assert (found.endpoint, found.spec, found.label) == (Endpoint[endpoint], spec, spec.name)


@pytest.mark.parametrize(
    ("target", "endpoint", "spec"),
    [
        ("/v1/models/m", "STATUS", ModelSpec("m")),
        ("/V1/MODELS/M/Versions/007", "STATUS", ModelSpec("M", 7)),
        ("/v1/models/m/versions/0", "STATUS", ModelSpec("m", 0)),
        ("/v1/models/m/labels/stable%20", "STATUS", ModelSpec("m", None, "stable ")),
        ("/v1/models/a%2Fb%3Ac", "STATUS", ModelSpec("a/b:c")),
        ("/v1/models/m?x=1", "STATUS", ModelSpec("m?x=1")),
        ("/v1/models/m#x", "STATUS", ModelSpec("m#x")),
        ("/v1/models/metadata", "STATUS", ModelSpec("metadata")),
        ("/v1/models/versions", "STATUS", ModelSpec("versions")),
        ("/v1/models/m/METADATA", "STATUS", ModelSpec("m")),
        ("/v1/models/m/metadata", "METADATA", ModelSpec("m")),
        ("/v1/models/m/versions/2/metadata", "METADATA", ModelSpec("m", 2)),
        ("/v1/models/m/labels/l/metadata", "METADATA", ModelSpec("m", None, "l")),
        ("/v1/models", "MODELS", ModelSpec("")),
        ("/V1/MODELS", "MODELS", ModelSpec("")),
        ("/v1/models/versions/1", "NAMELESS", ModelSpec("", 1)),
        ("/v1/models/labels/x", "NAMELESS", ModelSpec("", None, "x")),
        ("/v1/models/versions/1/metadata", "NAMELESS", ModelSpec("", 1)),
        ("/v1/models/versions/9223372036854775808", "VERSION_TOO_LARGE", ModelSpec("")),
        ("/v1/models/m/", "MALFORMED", ModelSpec("")),
        ("/v1/models/", "MALFORMED", ModelSpec("")),
        ("/v1/models?x", "MALFORMED", ModelSpec("")),
        ("/v1/models/m/metadata?x=1", "MALFORMED", ModelSpec("")),
        ("/v1/models/m:predict", "MALFORMED", ModelSpec("")),
        ("/v1/other", "MALFORMED", ModelSpec("")),
    ],
)
def test_a_get_asks_about_models(target, endpoint, spec):
    found = route("GET", target)
    assert (found.endpoint, found.spec, found.label) == (Endpoint[endpoint], spec, spec.name)


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("target", ["/v1/models/m", "/v1/models/m:predict"])
def test_other_methods_do_nothing(method, target):
    assert route(method, target).endpoint is Endpoint.MALFORMED


def test_a_name_that_is_no_utf8_keeps_its_bytes_and_has_a_label_that_can_be_printed():
    found = route("GET", "/v1/models/a%ff")
    assert found.spec.name.encode("utf-8", "surrogateescape") == b"a\xff"
    assert found.label == "a\ufffd"


def test_a_long_target_is_read_like_any_other():
    assert route("GET", "/v1/models/" + "m" * 5000).spec.name == "m" * 5000
