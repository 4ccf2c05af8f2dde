from __future__ import annotations

import pytest

from pyserving.frontends import monitoring
from pyserving.messages import HttpRequest

PATH = "/monitoring/prometheus/metrics"


class Metrics:
    def __init__(self):
        self.read = 0

    def exposition(self):
        self.read += 1
        return b"reads{} %d\n" % self.read


@pytest.fixture
def page():
    return monitoring.handler(Metrics(), PATH)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_it_serves_the_page_for_any_method(page, method):
    response = page(HttpRequest(method, PATH))
    assert (response.status, response.content_type, response.body) == (200, "text/plain", b"reads{} 1\n")


def test_it_is_made_anew_each_time(page):
    page(HttpRequest("GET", PATH))
    assert (page(HttpRequest("GET", PATH))).body == b"reads{} 2\n"


def test_it_refuses_a_query(page):
    response = page(HttpRequest("GET", PATH, "?a=1"))
    assert (response.status, response.content_type) == (400, "text/plain")
    assert response.body == f"Unexpected path: {PATH}?a=1. Should be {PATH}".encode()


@pytest.mark.parametrize("path", ["/", PATH + "/", PATH.upper(), "/monitoring"])
def test_other_paths_are_not_its_own(page, path):
    assert page(HttpRequest("GET", path)) is None
