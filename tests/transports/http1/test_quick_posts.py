"""POSTs that are answered before the handlers are asked: on the wire nothing tells them from others."""

from __future__ import annotations

import random

import pytest

from pyserving.errors import InvalidArgument
from pyserving.messages import HttpResponse
from pyserving.transports.admission import Admission
from tests.http_conversation import Conversation

HEAD = b"POST /echo HTTP/1.1\r\nContent-Length: 3\r\n"
POST = HEAD + b"\r\n"


class Service:
    """Says who answers, and what it was told; the quick one knows bodies that begin with `q`."""

    def __init__(self):
        self.is_asked_of = []
        self.quick_bodies = []
        self.error = None

    def handler(self, request):
        return HttpResponse(200, bytes(request.body))

    def quick_posts(self, request):
        self.is_asked_of.append((request.method, request.target, request.body))
        return self.quick_post if request.path == "/echo" else None

    def quick_post(self, body):
        if self.error is not None:
            raise self.error
        if not body.startswith(b"q"):
            return None
        self.quick_bodies.append(bytes(body))
        return HttpResponse(200, bytes(body))


@pytest.fixture
def service():
    return Service()


@pytest.fixture
async def talk(service):
    return Conversation([service.handler], quick_posts=service.quick_posts)


def bodies(said):
    return [part.rpartition(b"\r\n\r\n")[2] for part in said.split(b"HTTP/1.1 200 OK")[1:]]


async def test_a_head_that_came_before_is_answered_quickly(talk, service):
    said = [await talk.ask(POST + body) for body in (b"qaa", b"qbb", b"slo", b"qcc")]
    assert [bodies(one) for one in said] == [[b"qaa"], [b"qbb"], [b"slo"], [b"qcc"]]
    assert service.quick_bodies == [b"qbb", b"qcc"]
    assert service.is_asked_of == [("POST", "/echo", b"")]


@pytest.mark.parametrize("seed", range(10))
async def test_requests_are_answered_in_their_order_in_whatever_pieces_they_come(talk, service, seed):
    rng = random.Random(seed)
    sent = [rng.choice([b"qaa", b"qbb", b"slo"]) for _ in range(40)]
    heads = [POST, HEAD + b"A: b\r\n\r\n"]
    for head in heads:
        await talk.ask(head + b"slo")
    waiting = b""
    for body in sent:
        waiting += rng.choice(heads) + body
        cut = rng.choice([0, len(waiting), len(waiting), rng.randrange(len(waiting))])
        talk.say(waiting[:cut], rng.choice([1, 20, 1 << 20, 1 << 20]))
        waiting = waiting[cut:]
    talk.say(waiting)
    assert bodies(b"".join(talk.transport.writes)) == sent
    assert service.quick_bodies


@pytest.mark.parametrize("lines", [b"Connection: close\r\n", b"Expect: 100-continue\r\n"])
async def test_heads_that_are_not_kept_are_not_asked_about(talk, service, lines):
    assert b"qaa" in await talk.ask(HEAD + lines + b"\r\nqaa")
    assert service.is_asked_of == []


async def test_other_targets_go_to_handlers(talk, service):
    post = POST.replace(b"/echo", b"/other")
    assert [bodies(await talk.ask(post + b"qaa")) for _ in range(2)] == [[b"qaa"]] * 2
    assert service.quick_bodies == []


async def test_errors_are_worded_as_those_of_handlers(talk, service):
    await talk.ask(POST + b"qaa")
    service.error = InvalidArgument("no")
    said = await talk.ask(POST + b"qaa")
    assert said.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b'"error": "no"' in said
    service.error = None
    assert bodies(await talk.ask(POST + b"qbb")) == [b"qbb"]


async def test_a_mistake_is_logged_and_answered(talk, service, caplog):
    await talk.ask(POST + b"qaa")
    service.error = RuntimeError("broken")
    assert (await talk.ask(POST + b"qaa")).startswith(b"HTTP/1.1 500 ")
    assert [record.message for record in caplog.records] == ["POST /echo failed"]


async def test_a_full_server_refuses_as_ever(service):
    talk = Conversation([service.handler], admission=Admission(1, 1 << 20), quick_posts=service.quick_posts)
    await talk.ask(POST + b"qaa")
    talk.admission.enter(1)
    assert (await talk.ask(POST + b"qaa")).startswith(b"HTTP/1.1 429 ")
    assert service.quick_bodies == []


async def test_a_draining_server_refuses_as_ever(talk, service):
    await talk.ask(POST + b"qaa")
    await talk.server.drain(0.0)
    assert (await talk.ask(POST + b"qaa")).startswith(b"HTTP/1.1 503 ")
    assert service.quick_bodies == []


async def test_no_more_is_answered_than_the_client_reads(talk, service):
    await talk.ask(POST + b"qaa")
    talk.connection.pause_writing()
    talk.say(POST + b"qbb")
    assert talk.transport.writes == []
    talk.connection.resume_writing()
    assert bodies(await talk.heard()) == [b"qbb"]


async def test_new_tokens_are_asked_for_even_of_known_heads(service):
    talk = Conversation([service.handler], quick_posts=service.quick_posts)
    await talk.ask(POST + b"qaa")
    talk.server.authenticate_anew()
    await talk.ask(POST + b"qbb")
    assert service.quick_bodies == []
    assert len(service.is_asked_of) == 2
