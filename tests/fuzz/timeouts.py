"""Bytes as what a client does with its header blocks, most of them with a timeout of their own.

A reader that knows what the next block looks like says the same of each as one that decodes them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import hpack

from pyserving.errors import ServingError
from pyserving.transports.http2 import request_head
from pyserving.transports.http2.errors import ConnectionFailure, StreamFailure
from pyserving.transports.http2.header_cache import HeadReader, Heads
from pyserving.transports.http2.header_pattern import moved
from pyserving.transports.http2.hpack import Decoder, encode

FIELDS = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/t.T/Echo"),
    (b":authority", b"127.0.0.1:8500"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
    (b"user-agent", b"grpc-c++/1.51.1"),
]
STATIC = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/")]
_CALLS = 32
"""One step of a script may be as many calls, to fill the table."""


class Client:
    """Writes header blocks in the ways in which different libraries write them."""

    def __init__(self, manner: int) -> None:
        """Its bits: Huffman's code, the timeout's name as text each time, no insertion, where it stands (two), and
        nothing but the tenant and the timeout in the table."""
        self._encoder = hpack.Encoder()
        self._huffman = bool(manner & 1)
        self._names_each_time = bool(manner & 2)
        self._inserts = not manner & 4
        self._fields = STATIC if manner & 32 else FIELDS
        self._place = (len(self._fields), 4, 1, 0)[manner >> 3 & 3]
        self._timeout = 0

    def call(self, step: int, tenant: bytes | None = None, *, has_timeout: bool = True) -> bytes:
        self._timeout += step
        fields = [*self._fields, (b"tenant", tenant)] if tenant is not None else self._fields
        if not has_timeout:
            return self._encoded(fields)
        before, after = fields[: self._place], fields[self._place :]
        return self._encoded(before) + self._written_timeout(b"%dm" % self._timeout) + self._encoded(after)

    def resize(self, size: int) -> None:
        self._encoder.header_table_size = size

    def _written_timeout(self, value: bytes) -> bytes:
        if not self._inserts:
            return encode([(request_head.TIMEOUT, value)])
        if self._names_each_time:
            self._encoder.header_table.add(request_head.TIMEOUT, value)
            return b"\x40\x0cgrpc-timeout" + bytes([len(value)]) + value
        return self._encoded([(request_head.TIMEOUT, value)])

    def _encoded(self, fields: list[tuple[bytes, bytes]]) -> bytes:
        return self._encoder.encode(fields, huffman=self._huffman)


def compare(data: bytes) -> None:
    """The first byte is the client's manner, each two more are a step. AssertionError where the readers differ."""
    heads = Heads(1 << 14)
    reader, decoder = HeadReader(heads), Decoder()
    for block in blocks(data):
        expected = _outcome(lambda: _decoded(decoder, heads, block))  # noqa: B023  called at once
        assert _outcome(lambda: reader.read(block)) == expected  # noqa: B023
        assert reader._decoder._table == decoder._table
        assert reader._decoder._table_bytes == decoder._table_bytes
        if expected is ConnectionFailure:
            return


def blocks(data: bytes) -> Iterator[bytes]:
    client = Client(data[0] if data else 0)
    block, last = b"", b""
    seen: list[bytes] = []
    tenant: bytes | None = None
    for kind, value in zip(data[1::2], data[2::2], strict=False):
        match kind % 16:
            case 0:
                client.resize(value * 24)
            case 1:
                tenant = b"%d" % (value % 4)
                block = client.call(0, tenant)
            case 2:
                block = last
            case 3 if block:
                place = value % len(block)
                block = block[:place] + bytes([block[place] ^ 1 << (kind >> 4) % 8]) + block[place + 1 :]
            case 4:
                block = block[: -1 - value % 8]
            case 5:
                block = block + bytes([value])
            case 6:
                for _ in range(value % _CALLS):
                    yield client.call(1, tenant)
                block = client.call(value, tenant)
            case 9:
                block = client.call(0, b"%d" % (value % 4), has_timeout=False)
            case 10 if seen:
                block = seen[value % len(seen)]
            case 8 if NAMED in block:
                for _ in range(value):
                    block = as_if_nothing_left_the_table(block)
                    yield block
                last = block
                continue
            case _:
                block = client.call(value, tenant)
        yield block
        last = block
        seen = [*seen[-7:], block]


NAMED = b"\x40\x0cgrpc-timeout"


def as_if_nothing_left_the_table(block: bytes) -> bytes:
    """What a client sends next that thinks its peer's table larger than it is."""
    before, _, rest = block.partition(NAMED)
    size = rest[0] & 0x7F if rest else 0
    return moved(before) + NAMED + rest[: 1 + size] + moved(rest[1 + size :])


def script(random: Random) -> bytes:
    """Mostly calls."""
    kinds = (1, 1, 6, 7, 7, 7, 8, 9, 9, 10)
    steps = (bytes([random.choice((*kinds, random.randrange(256))), random.randrange(256)]) for _ in range(30))
    return bytes([random.randrange(64)]) + b"".join(steps)


def _decoded(decoder: Decoder, heads: Heads, block: bytes) -> tuple[request_head.RequestHead, float | None]:
    fields = decoder.decode(block)
    names = [name for name, _ in fields]
    timeout = None
    if request_head.TIMEOUT in names:
        _, value = fields.pop(names.index(request_head.TIMEOUT))
        timeout = request_head.timeout_seconds(value)
    return heads.head(tuple(fields)), timeout


def _outcome(read):
    try:
        return read()
    except (ConnectionFailure, StreamFailure, ServingError) as error:
        return ConnectionFailure if isinstance(error, ConnectionFailure) else type(error)
