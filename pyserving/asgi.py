"""A whole server as an ASGI application: the REST API and the pages, for a program that has a port already.

from pyserving.asgi import application
app = application(model_name="m", model_base_path="/models/m")
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pyserving.model_server import ModelServer
from pyserving.options import Options
from pyserving.transports.asgi import NOT_FOUND, AsgiApplication
from pyserving.transports.reception import Reception


def application(**flags: Any) -> AsgiApplication:
    """The arguments are the command line's flags. gRPC is served as well if `port` or `grpc_socket_path` is among them.

    Models begin to load at lifespan startup, which is over once they have settled as at any start of the server.
    """
    settings = Options(**{"port": 0, **flags})

    @asynccontextmanager
    async def serving() -> AsyncIterator[Reception]:
        server = ModelServer(settings, frozenset(flags))
        try:
            await server.start()
            reception = server.reception(NOT_FOUND)
            yield reception
            await reception.drain(settings.shutdown_grace_seconds)
        finally:
            await server.stop()

    return AsgiApplication(serving, max_body_bytes=settings.rest_max_body_bytes)
