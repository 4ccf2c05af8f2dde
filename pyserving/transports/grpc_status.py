"""What a failed gRPC call tells its client: a code, and a message short enough for a header."""

from __future__ import annotations

import logging

from pyserving.errors import Code, ServingError

MAX_MESSAGE_BYTES = 1024
"""As grpc_status_util.cc."""
_log = logging.getLogger(__name__)


def status_of(error: Exception, method: str) -> tuple[Code, str]:
    """The status for an error out of a method. One that is not a ServingError is logged, and its details stay here."""
    if isinstance(error, ServingError):
        return error.code, clipped(error.message)
    _log.error("%s failed", method, exc_info=error)
    return Code.INTERNAL, "Internal error; the server's log has the details"


def clipped(message: str) -> str:
    """At most the first 1024 bytes, marked when there were more; always text that UTF-8 can carry."""
    encoded = message.encode("utf-8", "replace")
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return encoded.decode("utf-8")
    return encoded[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore") + "...TRUNCATED"
