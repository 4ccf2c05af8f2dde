"""Status lines, headers and error pages, worded as libevent words them for TensorFlow Serving."""

from __future__ import annotations

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
    return HttpResponse(status, body, "text/html", {"Connection": "close"})


def asks_to_close(response: HttpResponse) -> bool:
    return response.headers.get("Connection") == "close"


def head_of(response: HttpResponse, version: str, *, keep_alive: bool, is_head: bool, date: str) -> bytes:
    """Status line and headers. HTTP/1.0 without keep-alive gets neither Date nor Content-Length; HEAD no length."""
    lines = [f"HTTP/{version} {response.status} {phrase(response.status)}", f"Content-Type: {response.content_type}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items() if name != "Connection"]
    if version == "1.1":
        lines.append(f"Date: {date}")
    if not is_head and (version == "1.1" or keep_alive):
        lines.append(f"Content-Length: {len(response.body)}")
    if not keep_alive:
        lines.append("Connection: close")
    elif version == "1.0":
        lines.append("Connection: keep-alive")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
