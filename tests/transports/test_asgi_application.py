from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from pyserving.errors import FailedPrecondition, NotFound, Unknown
from pyserving.frontends.http_status import error_response
from pyserving.messages import HttpResponse
from pyserving.transports.admission import Admission
from pyserving.transports.asgi import NOT_FOUND, AsgiApplication
from pyserving.transports.reception import Reception
from pyserving.transports.tokens import Token, TokenCheck, digest_of
from tests.asgi_server import AsgiServer


def echo(request):
    if request.path == "/missing":
        raise NotFound("nothing")
    if request.path.startswith("/echo"):
        text = f"{request.method} {request.target} {request.headers.get('x-name')} ".encode() + bytes(request.body)
        return HttpResponse(200, text, headers=(("X-Model-Version", "7"),))
    return later(request) if request.path == "/later" else None


async def later(request):
    await asyncio.sleep(0)
    return HttpResponse(201, b"later", "text/plain")


class Serving:
    """Opened and closed by the application."""

    def __init__(self, error=None):
        self.error = error
        self.events = []
        self.admission = Admission(10, 1 << 20)
        self.authenticate = None

    @asynccontextmanager
    async def __call__(self):
        if self.error is not None:
            raise self.error
        self.events.append("open")
        yield Reception([echo], error_response, self.admission, NOT_FOUND, self.authenticate)
        self.events.append("close")


@pytest.fixture
def serving():
    return Serving()


@pytest.fixture
async def server(serving):
    app = AsgiApplication(serving, max_body_bytes=100)
    async with app.running():
        yield AsgiServer(app)


async def test_it_answers_with_status_type_length_and_headers(server):
    status, headers, body = await server.ask("/echo", (b"ab", b"c"), "POST", headers=[(b"X-Name", b"n")])
    assert (status, body) == (200, b"POST /echo n abc")
    assert headers == {b"content-type": b"application/json", b"content-length": b"16", b"x-model-version": b"7"}


async def test_escapes_and_queries_reach_the_handler_as_they_were_sent(server):
    _, _, body = await server.ask("/echo/a/b", raw_path=b"/echo/a%2Fb", query_string=b"x=1")
    assert body == b"GET /echo/a%2Fb?x=1 None "
    _, _, body = await server.ask("/echo/a b:c", raw_path=None)
    assert body == b"GET /echo/a%20b:c None "


async def test_it_answers_below_the_path_where_it_is_mounted(server):
    _, _, body = await server.ask("/serving/echo", root_path="/serving")
    assert body == b"GET /echo None "


async def test_it_waits_for_handlers_and_words_their_errors(server):
    assert (await server.ask("/later"))[0] == 201
    status, _, body = await server.ask("/missing")
    assert (status, body) == (404, b'{\n    "error": "nothing"\n}')
    assert (await server.ask("/nowhere"))[0] == 404


async def test_a_body_over_the_limit_is_refused(server):
    assert (await server.ask("/echo", (b"x" * 101,), "POST"))[0] == 413
    assert (await server.ask("/echo", (b"x" * 100,), "POST"))[0] == 200


async def test_posts_are_admitted(server, serving):
    serving.admission.enter(1 << 20)
    status, _, body = await server.ask("/echo", (b"x",), "POST")
    assert status == 429
    assert b"--max_inflight_bytes" in body


async def test_who_must_show_a_token_is_refused_before_the_body_is_read(serving):
    serving.authenticate = TokenCheck((Token(digest_of("one")),))
    app = AsgiApplication(serving, max_body_bytes=100)
    async with app.running():
        server = AsgiServer(app)
        status, headers, body = await server.ask("/echo", (b"x" * 101,), "POST")
        assert (status, headers[b"www-authenticate"]) == (401, b"Bearer")
        assert body.startswith(b'{\n    "error": "A token is needed')
        shown = [(b"Authorization", b"Bearer one")]
        assert (await server.ask("/echo", (b"x",), "POST", headers=shown))[0] == 200


async def test_its_lifespan_opens_and_closes_what_it_serves(serving):
    server = AsgiServer(AsgiApplication(serving))

    async def meanwhile():
        assert (await server.ask("/echo"))[0] == 200
        assert serving.events == ["open"]

    said = await server.live(meanwhile)
    assert [message["type"] for message in said] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert serving.events == ["open", "close"]


async def test_a_failing_start_is_told():
    said = await AsgiServer(AsgiApplication(Serving(Unknown("no model")))).live()
    assert said == [{"type": "lifespan.startup.failed", "message": "no model"}]


async def test_without_a_lifespan_it_says_what_is_missing(serving):
    with pytest.raises(FailedPrecondition, match="lifespan"):
        await AsgiServer(AsgiApplication(serving)).ask("/echo")


async def test_it_closes_websockets(server):
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    await server.app({"type": "websocket"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1000}]
