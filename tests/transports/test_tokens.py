from __future__ import annotations

import hmac

import pytest

from pyserving.errors import Unauthenticated
from pyserving.transports.tokens import Token, TokenCheck, asks_for_health, digest_of, is_preflight

PATH = "/v1/models/m:predict"


def check_of(*tokens, **more):
    return TokenCheck(tuple(Token(digest_of(token)) for token in tokens), **more)


def lets_in(check, headers, method="POST", path=PATH):
    try:
        check(method, path, headers)
    except Unauthenticated:
        return False
    return True


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer one"},
        {"authorization": "bearer two"},
        {"authorization": "BEARER  one "},
        {"x-api-key": "two"},
        {"x-api-key": "one", "authorization": "Basic dTpw"},
        {"x-api-key": "unknown", "authorization": "Bearer one"},
    ],
)
def test_a_token_lets_in_as_a_bearer_token_or_as_an_api_key(headers):
    assert lets_in(check_of("one", "two"), headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "one"},
        {"authorization": "Basic one"},
        {"authorization": "Bearer one, Bearer two"},
        {"authorization": "Bearer onet"},
        {"authorization": "Bearer on"},
        {"authorization": "Bearer One"},
        {"authorization": "Bearer \xf6ne"},
        {"authorization": "Bearer \udcff"},
        {"x-api-key": ""},
        {"x-api-key": "three"},
        {"x-api-key-bin": b"one"},
        {"x-api-key": b"one"},
        {"cookie": "one"},
    ],
)
def test_anything_else_does_not(headers):
    assert not lets_in(check_of("one", "two"), headers)


def test_it_says_whether_a_token_is_missing_or_unknown_and_repeats_none():
    refused = []
    check = check_of("one", on_refused=lambda: refused.append(1))
    with pytest.raises(Unauthenticated, match="A token is needed"):
        check("GET", PATH, {})
    with pytest.raises(Unauthenticated, match=r"^The token is not known$"):
        check("GET", PATH, {"x-api-key": "two"})
    check("GET", PATH, {"x-api-key": "one"})
    assert len(refused) == 2


def test_every_token_is_compared_whichever_fits(monkeypatch):
    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(b) or compare(a, b))
    check = check_of("one", "two", "three")
    for shown in ("one", "three", "four"):
        lets_in(check, {"x-api-key": shown})
        assert compared == [token.digest for token in check.tokens]
        compared.clear()


def test_no_token_is_kept_in_a_form_that_can_be_read():
    assert "secret" not in repr(vars(check_of("secret")))


def test_others_count_from_now_on():
    check = check_of("one")
    check.tokens = (Token(digest_of("two")),)
    assert not lets_in(check, {"x-api-key": "one"})
    assert lets_in(check, {"x-api-key": "two"})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/grpc.health.v1.Health/Check"),
        ("POST", "/grpc.health.v1.Health/Watch"),
        ("GET", "/healthz"),
        ("HEAD", "/readyz"),
        ("GET", "/readyz/m"),
    ],
)
def test_health_may_be_asked_for_without_a_token(method, path):
    assert lets_in(check_of("one", exempt=[asks_for_health]), {}, method, path)
    assert not lets_in(check_of("one"), {}, method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/tensorflow.serving.PredictionService/Predict"),
        ("POST", "/grpc.health.v1.HealthX/Check"),
        ("GET", "/healthz/"),
        ("GET", "//healthz"),
        ("GET", "/v1/models/m?/healthz"),
        ("GET", "/monitoring/prometheus/metrics"),
        ("GET", "/openapi.json"),
        ("POST", "/healthz"),
        ("OPTIONS", "/monitoring/prometheus/metrics"),
    ],
)
def test_nothing_else_may(method, path):
    assert not lets_in(check_of("one", exempt=[asks_for_health, is_preflight]), {}, method, path)


@pytest.mark.parametrize(("method", "path"), [("GET", "/readyz/metrics"), ("OPTIONS", "/v1/metrics")])
def test_a_page_that_is_never_exempt_is_not_wherever_it_is(method, path):
    check = check_of("one", exempt=[asks_for_health, is_preflight], never_exempt=[path])
    assert not lets_in(check, {}, method, path)
    assert lets_in(check, {"x-api-key": "one"}, method, path)
    assert lets_in(check, {}, "GET", "/readyz/m")


@pytest.mark.parametrize(("method", "path"), [("GET", "/healthz"), ("HEAD", "/readyz/m"), ("OPTIONS", PATH)])
def test_nobody_without_a_token_brings_a_body(method, path):
    check = check_of("one", exempt=[asks_for_health, is_preflight])
    assert lets_in(check, {"content-length": "0"}, method, path)
    assert not lets_in(check, {"content-length": "1000000"}, method, path)
    assert not lets_in(check, {"transfer-encoding": "chunked"}, method, path)
    assert lets_in(check, {"content-length": "1000000", "x-api-key": "one"}, method, path)


def test_a_browser_may_ask_whether_it_may_send_a_token():
    check = check_of("one", exempt=[is_preflight])
    assert lets_in(check, {}, "OPTIONS")
    assert not lets_in(check, {"access-control-request-method": "POST"}, "POST")
