"""HTTP/1.0 and 1.1 on our own connection over httptools, as TensorFlow Serving's HTTP layer answers."""

from pyserving.transports.http1.limits import Limits
from pyserving.transports.http1.server import HttpServer

__all__ = ["HttpServer", "Limits"]
