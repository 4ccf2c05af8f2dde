"""The transport's tests run on both event loops that it serves on."""

from __future__ import annotations

import asyncio
import importlib.util


def pytest_asyncio_loop_factories(config, item):
    factories = {"asyncio": asyncio.new_event_loop}
    if importlib.util.find_spec("uvloop"):
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories
