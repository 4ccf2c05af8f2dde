from __future__ import annotations

import json

import pytest

from pyserving.errors import Code, NotFound, error_for
from pyserving.frontends.http_status import error_response, http_status


@pytest.mark.parametrize(
    ("status", "codes"),
    [
        (200, ["OK"]),
        (400, ["INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"]),
        (401, ["UNAUTHENTICATED"]),
        (403, ["PERMISSION_DENIED"]),
        (404, ["NOT_FOUND"]),
        (409, ["ALREADY_EXISTS", "ABORTED"]),
        (429, ["RESOURCE_EXHAUSTED"]),
        (499, ["CANCELLED"]),
        (500, ["UNKNOWN", "INTERNAL", "DATA_LOSS"]),
        (501, ["UNIMPLEMENTED"]),
        (503, ["UNAVAILABLE"]),
        (504, ["DEADLINE_EXCEEDED"]),
    ],
)
def test_codes_have_the_statuses_of_tensorflow_serving(status, codes):
    assert {http_status(Code[code]) for code in codes} == {status}


def test_every_code_has_a_status():
    assert all(200 <= http_status(code) <= 504 for code in Code)


def test_an_error_is_an_object_over_three_lines():
    response = error_response(NotFound("Servable not found for request: Latest(m)"))
    assert response.status == 404
    assert response.content_type == "application/json"
    assert response.body == b'{\n    "error": "Servable not found for request: Latest(m)"\n}'


def test_it_escapes_as_rapidjson_does():
    body = error_response(error_for(3, 'a"b\\c/\n\t\r\b\f\x01\x1f\x7f é')).body
    assert body == 'a"b'.replace('"', '\\"').encode().join([b'{\n    "error": "', b""]) + (
        b'\\\\c/\\n\\t\\r\\b\\f\\u0001\\u001F\x7f \xc3\xa9"\n}'
    )
    assert json.loads(body) == {"error": 'a"b\\c/\n\t\r\b\f\x01\x1f\x7f é'}


def test_bytes_that_were_no_text_go_out_as_they_came():
    assert b"m\xff\x80" in error_response(NotFound(b"m\xff\x80".decode("utf-8", "surrogateescape"))).body
