"""Bytes of one connection into requests. Pure: it is fed, and says what came; heads are parsed by httptools."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

import httptools

from pyserving.errors import ServingError
from pyserving.messages import Buffer, reserve_nothing
from pyserving.transports.http1.body import Body
from pyserving.transports.http1.limits import Limits
from pyserving.transports.http1.request_head import Heads, RequestHead
from pyserving.transports.http1.target import Target, parse_target

METHODS = frozenset({b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"})
_REQUEST_LINE = re.compile(rb"^([!-~]+) \S+ HTTP/1\.[01]\r?$", re.MULTILINE)
END_OF_HEAD = b"\r\n\r\n"
_NOWHERE = Target("", "", False)


class Phase(Enum):
    """What the connection's last byte belongs to."""

    BETWEEN = "between requests"
    HEAD = "a request's head"
    BODY = "a request's body"


class Arrival(NamedTuple):
    """A request that has come in whole, or why it is refused."""

    head: RequestHead
    body: Buffer = b""
    refusal: int | ServingError = 0
    """The status of an error page, or an error to be worded like those of handlers; 0 for a request in order."""
    held: int = 0
    """Bytes of memory that `hold` was told of for the body."""


class RequestReader:
    """Reads until a request cannot be understood or is the connection's last; `over` then, and the rest is ignored.

    A head that was read before is recognised by its bytes; others, and bodies in chunks, are the parser's part. A body
    of a known length is gathered here.
    """

    def __init__(
        self, limits: Limits, heads: Heads | None = None, hold: Callable[[int], None] = reserve_nothing
    ) -> None:
        """`hold` is told of the memory that a body takes, until it has arrived; it may raise a ServingError."""
        self._limits = limits
        self._heads = Heads() if heads is None else heads
        self._hold = hold
        self._parser = httptools.HttpRequestParser(self)
        self.arrivals: deque[Arrival] = deque()
        """In order; a refusal is the last there will be."""
        self.phase = Phase.BETWEEN
        self.over = False
        self.expects_continue = False
        """The client waits for a `100 Continue` before it sends its body."""
        self._head_text = b""  # of the request that the parser is about to begin, if it is all there
        self._silent_bytes = 0  # fed since the parser last handed over something that has a limit of its own
        self._made_progress = False
        self._head = RequestHead()
        self._body: Body | None = None
        self._gathers = False  # this body, and not the parser
        self._begin()

    def _begin(self) -> None:
        self._raw_target = b""
        self._headers: dict[str, str] = {}
        self._head_bytes = 0

    # Bytes come in

    def space(self) -> memoryview | None:
        """Where the next bytes should be read to, to be told of by `filled`; None: anywhere, and `feed` them."""
        return self._body.space() if self._gathers and self._body is not None else None

    def filled(self, size: int) -> None:
        """So many bytes lie in the `space` that was asked for last."""
        assert self._body is not None
        self.expects_continue = False
        try:
            self._body.fill(size)
        except ServingError as error:
            self.refuse(error)
        else:
            self._finish_if_whole()

    @property
    def is_at_rest(self) -> bool:
        """All that has come in was whole requests, and was taken away."""
        return self.phase is Phase.BETWEEN and not (self._silent_bytes or self.arrivals or self.over)

    def feed(self, data: bytes) -> None:
        while data and not self.over:
            if self._gathers:
                data = self._gather(data)
            elif self.phase is Phase.BETWEEN and not self._silent_bytes:
                data = self._recognise(data)
            else:
                data = self._parse(data)

    def refuse(self, why: int | ServingError) -> None:
        """Give up on the connection."""
        self.over = True
        self.expects_continue = False
        self._gathers = False
        self.arrivals.append(Arrival(self._head_so_far(), b"", why))

    def _head_so_far(self) -> RequestHead:
        if self.phase is Phase.BETWEEN:
            return RequestHead()
        if self.phase is Phase.BODY:
            return self._head
        version = self._parser.get_http_version()
        return RequestHead(self._parser.get_method().decode(), version=version if version == "1.0" else "1.1")

    # Known heads, and bodies of known length

    def _recognise(self, data: bytes) -> bytes:
        """Take a request that begins here, or its head; what is left."""
        end = data.find(END_OF_HEAD) + len(END_OF_HEAD)
        if end < len(END_OF_HEAD):
            return self._parse(data)
        text = data[:end]
        head = self._heads.get(text)
        if head is None:
            return self._learn(text) + data[end:]
        whole = end + (head.content_length or 0)
        if whole <= len(data):
            self.arrivals.append(Arrival(head, data[end:whole]))
            return data[whole:]
        self._head = head
        self.phase = Phase.BODY
        self._begin_gathering()
        return data[end:]

    def _learn(self, text: bytes) -> bytes:
        """Read a head that is all there; what of it is left to be read."""
        self._head_text = text
        left = self._parse(text)
        self._head_text = b""
        if self.phase is Phase.BODY and self._head.content_length and self._body is None and not self.over:
            self._parser = httptools.HttpRequestParser(self)  # the old one waits for a body
            self._begin_gathering()
        return left

    def _begin_gathering(self) -> None:
        self._body = Body(self._head.content_length or 0, self._hold)
        self._gathers = True

    def _gather(self, data: bytes) -> bytes:
        assert self._body is not None
        piece = data[: (self._head.content_length or 0) - self._body.filled]
        self.expects_continue = False
        try:
            self._body.add(piece)
        except ServingError as error:
            self.refuse(error)
            return b""
        self._finish_if_whole()
        return data[len(piece) :]

    def _finish_if_whole(self) -> None:
        assert self._body is not None
        if self._body.filled == self._head.content_length:
            self._gathers = False
            self._finish()

    def _finish(self) -> None:
        body: Buffer = b""
        held = 0
        if self._body is not None:
            held = self._body.held
            body = self._body.content()
            self._body = None
        self.over = not self._head.keep_alive
        self.expects_continue = False
        self.phase = Phase.BETWEEN
        self.arrivals.append(Arrival(self._head, body, 0, held))

    # The parser's part

    def _parse(self, data: bytes) -> bytes:
        """What is left to be fed."""
        self._made_progress = False
        size = len(data)
        left = self._feed_parser(data)
        self._silent_bytes = 0 if self._made_progress else self._silent_bytes + size
        if self._silent_bytes > self._limits.max_head_bytes and not self.over:
            self.refuse(431)
        return left

    def _feed_parser(self, data: bytes) -> bytes:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:  # no protocol to change to: go on as if it had not been asked
            self._parser = httptools.HttpRequestParser(self)
            return data[upgrade.args[0] :]
        except httptools.HttpParserInvalidMethodError:
            if not self.over:
                self.refuse(400 if METHODS.issuperset(_REQUEST_LINE.findall(data)) else 501)
        except httptools.HttpParserError:
            if not self.over:
                self.refuse(400)
        return b""

    # Called by the parser

    def on_message_begin(self) -> None:
        if not self.over:
            self._begin()
            self.phase = Phase.HEAD

    def on_url(self, url: bytes) -> None:
        self._raw_target += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.phase is not Phase.HEAD:
            return  # a trailer
        self._head_bytes += len(name) + len(value)
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        if self.over:
            return
        self._made_progress = True
        target = parse_target(self._raw_target)
        refusal = self._refusal_of_head(target)
        if refusal:
            self.refuse(refusal)
            return
        self._head = self._whole_head(target or _NOWHERE)
        if error := self._heads.refusal(self._head):
            self.refuse(error)
            return
        if self._head_text:
            self._head = self._heads.keep(self._head_text, self._head)
        self.expects_continue = "expect" in self._headers and self._head.version == "1.1"
        self.phase = Phase.BODY

    def _refusal_of_head(self, target: Target | None) -> int:
        """The status with which the head alone is refused; 0 when it is not."""
        if self._parser.get_http_version() not in ("1.0", "1.1"):
            return 400
        if self._parser.get_method() not in METHODS:
            return 501
        if self._head_bytes > self._limits.max_head_bytes:
            return 431
        if self._headers.get("expect", "100-continue").lower() != "100-continue":
            return 417
        if int(self._headers.get("content-length", "0")) > self._limits.max_body_bytes:
            return 413
        return 400 if target is None else 0

    def _whole_head(self, target: Target) -> RequestHead:
        return RequestHead(
            self._parser.get_method().decode(),
            target.path,
            target.tail,
            self._headers,
            self._parser.get_http_version(),
            self._parser.should_keep_alive() and not target.is_absolute,
            None if "transfer-encoding" in self._headers else int(self._headers.get("content-length", "0")),
        )

    def on_body(self, body: bytes) -> None:
        if self.over:
            return
        self._made_progress = True
        self.expects_continue = False
        if self._body is None:
            self._body = Body(self._head.content_length or self._limits.max_body_bytes, self._hold)
        if self._body.filled + len(body) > self._limits.max_body_bytes:
            self.refuse(413)
            return
        try:
            self._body.add(body)
        except ServingError as error:
            self.refuse(error)

    def on_message_complete(self) -> None:
        if self.over:
            return
        self._made_progress = True
        if self._parser.should_upgrade() and self._head.content_length != 0:
            self._read_body_behind_upgrade()
        else:
            self._finish()

    def _read_body_behind_upgrade(self) -> None:
        """The parser takes no body from who asks for another protocol, as Java's client does at first."""
        if self._head.content_length is None:
            self.refuse(501)
        else:
            self._begin_gathering()
