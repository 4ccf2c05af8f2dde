"""The server side of RFC 9113 for gRPC, on asyncio's or uvloop's event loop: the fast transport."""

from pyserving.transports.http2.limits import Limits
from pyserving.transports.http2.server import Http2Server

__all__ = ["Http2Server", "Limits"]
