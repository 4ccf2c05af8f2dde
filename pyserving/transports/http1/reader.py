"""Bytes of one connection into requests. Pure: it is fed, and says what came; the parsing is httptools'."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

import httptools

from pyserving.messages import HttpRequest
from pyserving.transports.http1.limits import Limits
from pyserving.transports.http1.target import Target, parse_target

METHODS = frozenset({b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"})
_REQUEST_LINE = re.compile(rb"^([!-~]+) \S+ HTTP/1\.[01]\r?$", re.MULTILINE)


class Phase(Enum):
    """What the connection's last byte belongs to."""

    BETWEEN = "between requests"
    HEAD = "a request's head"
    BODY = "a request's body"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that has come in whole, or the status with which it is refused."""

    request: HttpRequest | None
    refusal: int = 0
    version: str = "1.1"
    keep_alive: bool = False
    is_head: bool = False


class RequestReader:
    """Reads until a request cannot be understood or is the connection's last; `over` then, and the rest is ignored."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._arrivals: list[Arrival] = []
        self._silent_bytes = 0  # fed since the parser last handed over something that has a limit of its own
        self._made_progress = False
        self.phase = Phase.BETWEEN
        self.over = False
        self.expects_continue = False
        """The client waits for a `100 Continue` before it sends its body."""
        self._begin()

    def _begin(self) -> None:
        self._raw_target = b""
        self._target = Target("", "", False)
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._keep_alive = True

    def feed(self, data: bytes) -> list[Arrival]:
        """The requests that are complete with these bytes, in order; a refusal is the last there will be."""
        self._arrivals = []
        self._made_progress = False
        size = len(data)
        while data and not self.over:
            data = self._feed_parser(data)
        self._silent_bytes = 0 if self._made_progress else self._silent_bytes + size
        if self._silent_bytes > self._limits.max_head_bytes and not self.over:
            self.refuse(431)
        return self._arrivals

    def refuse(self, status: int) -> Arrival:
        """Give up on the connection; the arrival that says so."""
        method, version = self._method_and_version()
        self.over = True
        self.expects_continue = False
        refusal = Arrival(None, status, version, is_head=method == "HEAD")
        self._arrivals.append(refusal)
        return refusal

    def _feed_parser(self, data: bytes) -> bytes:
        """What is left to be fed."""
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

    def _method_and_version(self) -> tuple[str, str]:
        if self.phase is Phase.BETWEEN:
            return "", "1.1"
        version = self._parser.get_http_version()
        return self._parser.get_method().decode(), version if version in ("1.0", "1.1") else "1.1"

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
        refusal = self._refusal_of_head()
        if refusal:
            self.refuse(refusal)
            return
        self._keep_alive = self._parser.should_keep_alive() and not self._target.is_absolute
        self.expects_continue = "expect" in self._headers and self._parser.get_http_version() == "1.1"
        self.phase = Phase.BODY

    def _refusal_of_head(self) -> int:
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
        target = parse_target(self._raw_target)
        if target is None:
            return 400
        self._target = target
        return 0

    def on_body(self, body: bytes) -> None:
        if self.over:
            return
        self._made_progress = True
        self.expects_continue = False
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.max_body_bytes:
            self.refuse(413)

    def on_message_complete(self) -> None:
        if self.over:
            return
        self._made_progress = True
        method, version = self._method_and_version()
        request = HttpRequest(method, self._target.path, self._target.query, self._headers, b"".join(self._body))
        self.over = not self._keep_alive
        self._arrivals.append(Arrival(request, 0, version, self._keep_alive, method == "HEAD"))
        self.expects_continue = False
        self.phase = Phase.BETWEEN
