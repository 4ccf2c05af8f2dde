from __future__ import annotations

import hpack
import pytest

from pyserving.errors import ResourceExhausted
from pyserving.transports.http2.errors import StreamFailure
from pyserving.transports.http2.header_cache import HeadReader, Heads
from pyserving.transports.http2.header_pattern import moved
from pyserving.transports.http2.hpack import HpackError
from tests.fuzz import timeouts

FIELDS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/t.T/Echo"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


@pytest.fixture
def reader():
    return HeadReader(Heads(1 << 14))


def test_a_block_that_changes_nothing_is_decoded_once(reader):
    encoder = hpack.Encoder()
    reader.read(encoder.encode(FIELDS))
    block = encoder.encode(FIELDS)  # all of it by index now
    head, timeout = reader.read(block)
    assert (head.path, timeout) == ("/t.T/Echo", None)
    assert reader.read(block) is reader.read(block)


def test_the_same_bytes_mean_something_else_once_the_table_has_changed(reader):
    encoder = hpack.Encoder()
    reader.read(encoder.encode([*FIELDS, ("tenant", "a")]))
    block = encoder.encode([*FIELDS, ("tenant", "a")])
    assert reader.read(block)[0].metadata == {"tenant": "a"}
    reader.read(encoder.encode([*FIELDS, ("tenant", "b")]))
    moved = encoder.encode([*FIELDS, ("tenant", "b")])
    assert moved[-1] == block[-1]
    assert reader.read(moved)[0].metadata == {"tenant": "b"}


def test_the_same_bytes_mean_something_else_once_trailers_have_changed_the_table(reader):
    encoder = hpack.Encoder()
    reader.read(encoder.encode([*FIELDS, ("tenant", "a")]))
    block = encoder.encode([*FIELDS, ("tenant", "a")])
    reader.read(block)
    reader.decode(b"\x40\x06tenant\x01b")
    fields = dict(hpack.Decoder().decode(encoder.encode([]), raw=True))
    assert fields == {}
    with pytest.raises(StreamFailure):  # every index is one off, so that even pseudo-headers are misplaced
        reader.read(block)


def test_a_timeout_that_varies_leaves_the_head_the_same(reader):
    encoder = hpack.Encoder()
    answers = [reader.read(encoder.encode([*FIELDS, ("grpc-timeout", f"{n}m")])) for n in range(1, 200)]
    assert {id(head) for head, _ in answers} == {id(answers[0][0])}
    assert [timeout for _, timeout in answers] == pytest.approx([n / 1000 for n in range(1, 200)])


def test_connections_share_heads():
    heads = Heads(1 << 14)
    first, second = (HeadReader(heads).read(hpack.Encoder().encode(FIELDS))[0] for _ in range(2))
    assert first is second


def test_a_list_over_the_limit_is_refused_and_the_table_goes_on():
    reader, encoder = HeadReader(Heads(300)), hpack.Encoder()
    with pytest.raises(ResourceExhausted, match="exceeds the limit of 300"):
        reader.read(encoder.encode([*FIELDS, ("long", "x" * 300)]))
    assert reader.read(encoder.encode(FIELDS))[0].path == "/t.T/Echo"


def test_a_client_that_never_says_the_same_twice_fills_no_memory():
    heads = Heads(1 << 14)
    reader, encoder = HeadReader(heads), hpack.Encoder()
    for n in range(3000):
        reader.read(encoder.encode([*FIELDS, hpack.NeverIndexedHeaderTuple("id", str(n))]))
    assert len(heads) <= 1024
    assert len(reader) <= 64


@pytest.mark.parametrize("manner", range(32))
def test_few_blocks_with_a_timeout_of_their_own_are_decoded(reader, monkeypatch, manner):
    decoded = []
    decode = reader.decode
    monkeypatch.setattr(reader, "decode", lambda block: decoded.append(block) or decode(block))
    client = timeouts.Client(manner)
    for _ in range(1000):
        reader.read(client.call(1))
    # The table has room for some 80 timeouts, and each time it is full the other fields enter it anew.
    assert len(decoded) < 100


def test_a_field_that_a_timeout_pushes_out_of_the_table_ends_the_connection(reader):
    block = hpack.Encoder().encode([*FIELDS, ("tenant", "a")]) + b"\x40\x0cgrpc-timeout\x021m"
    reader.read(block)
    indices = hpack.Encoder()
    indices.encode([*FIELDS, ("tenant", "a")])
    block = moved(indices.encode([*FIELDS, ("tenant", "a")])) + b"\x40\x0cgrpc-timeout\x021m"
    blocks = [block]
    while len(blocks) < 100:
        blocks.append(timeouts.as_if_nothing_left_the_table(blocks[-1]))
    with pytest.raises(HpackError):
        list(map(reader.read, blocks))


def test_a_pattern_is_not_known_to_whom_heads_have_to_be_let_in_anew(reader):
    encoder = hpack.Encoder()
    heads = []
    for number in range(6):
        heads.append(reader.read(encoder.encode([*FIELDS, ("grpc-timeout", f"{number}m")]))[0])
        if number == 3:
            reader._heads.forget()
            reader.forget()
    assert len({id(head) for head in heads[:4]}) == 1
    assert heads[4] is not heads[3]


def test_bytes_that_were_known_mean_something_else_once_a_timeout_has_moved_the_table(reader):
    """A proxy's connection, with the calls of several tenants."""
    encoder = hpack.Encoder()

    def call(tenant: str, *more: tuple[str, str]) -> bytes:
        fields = [(":method", "POST"), (":scheme", "http"), (":path", "/"), ("authorization", tenant), *more]
        return encoder.encode(fields, huffman=False)

    for tenant in ("A", "B"):
        reader.read(call(tenant))
    for number in range(3):
        reader.read(call("B", ("grpc-timeout", f"{number}m")))
    of_a = call("A")
    assert reader.read(of_a)[0].metadata == {"authorization": "A"}
    reader.read(call("B", ("grpc-timeout", "3m")))
    of_b = call("B")
    assert of_b == of_a
    assert reader.read(of_b)[0].metadata == {"authorization": "B"}
