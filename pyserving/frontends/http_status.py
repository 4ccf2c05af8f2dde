"""How the canonical codes look in HTTP: a status, and a JSON body with the message."""

from __future__ import annotations

from pyserving.codec.json.error import encode_error
from pyserving.errors import Code, ServingError
from pyserving.messages import HttpResponse

_HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


def http_status(code: Code) -> int:
    """As http_rest_api_util.cc maps them."""
    return _HTTP_STATUS[code]


def error_response(error: ServingError, headers: tuple[tuple[str, str], ...] = ()) -> HttpResponse:
    """`{"error": message}` over three lines, without a newline at the end. A 401 says what would help, as it must."""
    if error.code is Code.UNAUTHENTICATED:
        headers = (*headers, ("WWW-Authenticate", "Bearer"))
    return HttpResponse(http_status(error.code), encode_error(error.message), headers=headers)
