"""The transports' tests run on both event loops that they serve on; those of grpcio, which brings its own, on one."""

from __future__ import annotations

import asyncio
import importlib.util

_ON_ONE_LOOP = {"test_grpc_authentication.py", "test_grpc_servers.py", "test_grpcio_server.py"}


def pytest_asyncio_loop_factories(config, item):
    factories = {"asyncio": asyncio.new_event_loop}
    if importlib.util.find_spec("uvloop") and item.path.name not in _ON_ONE_LOOP:
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories
