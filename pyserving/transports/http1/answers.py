"""Status lines, headers and error pages, worded as libevent words them for TensorFlow Serving."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus

from pyserving.messages import HttpResponse

_PHRASES = {status.value: status.phrase for status in HTTPStatus} | {
    408: "Request Time-out",
    413: "Request Entity Too Large",
    504: "Gateway Time-out",
}


def phrase(status: int) -> str:
    """The reason phrase; libevent knows those up to 417 and of 5xx."""
    if 417 < status < 500:
        return "Client Error"
    return _PHRASES.get(status, "Unknown")


def page(status: int) -> HttpResponse:
    """The HTML page for what never reached a handler. The connection ends with it."""
    words = phrase(status)
    body = (
        f"<HTML><HEAD>\n<TITLE>{status} {words}</TITLE>\n</HEAD><BODY>\n<H1>{words}</H1>\n</BODY></HTML>\n"
    ).encode()
    return HttpResponse(status, body, "text/html", closes=True)


def head_of(response: HttpResponse, version: str, *, keep_alive: bool, is_head: bool, date: bytes) -> bytes:
    """Status line and headers; `date` is the whole line. HTTP/1.0 without keep-alive gets neither Date nor
    Content-Length; HEAD no length."""
    start = _start(version, response.status, response.content_type, response.headers)
    if version == "1.1" and keep_alive and not is_head:  # what nearly all are
        return b"%b%bContent-Length: %d\r\n\r\n" % (start, date, len(response.body))
    is_modern = version == "1.1"
    length = b"Content-Length: %d\r\n" % len(response.body) if not is_head and (is_modern or keep_alive) else b""
    connection = b""
    if keep_alive:
        connection = b"" if is_modern else b"Connection: keep-alive\r\n"
    elif is_modern or response.closes:
        connection = b"Connection: close\r\n"
    return b"%b%b%b%b\r\n" % (start, date if is_modern else b"", length, connection)


@lru_cache(maxsize=1 << 10)
def _start(version: str, status: int, content_type: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    lines = [f"HTTP/{version} {status} {phrase(status)}", f"Content-Type: {content_type}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n").encode("latin-1")
