"""An event loop's clock that a test moves on, so that deadlines pass without waiting for them."""

from __future__ import annotations

import asyncio


class Clock:
    """Time goes on as usual, and by `advance` at once: what was due meanwhile happens when the loop next looks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ahead = 0.0
        time = loop.time
        loop.time = lambda: time() + self._ahead  # type: ignore[method-assign]

    def advance(self, seconds: float) -> None:
        self._ahead += seconds
