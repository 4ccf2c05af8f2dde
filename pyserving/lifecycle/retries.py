"""How often, and after what time, a load that failed is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

CallLater: TypeAlias = Callable[[float, Callable[[], None]], asyncio.TimerHandle]
"""`call_later(seconds, callback)`."""


def call_later(seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
    """In the time of the running loop."""
    return asyncio.get_running_loop().call_later(seconds, callback)


@dataclass(frozen=True, slots=True)
class LoadRetries:
    """The defaults are tensorflow_model_server's."""

    max_num_load_retries: int = 5
    """Attempts after the first."""
    load_retry_interval_micros: int = 60_000_000
    """Negative: no wait."""

    @property
    def wait_seconds(self) -> float:
        """From one attempt to the next."""
        return max(0.0, self.load_retry_interval_micros / 1e6)

    def is_last(self, attempt: int) -> bool:
        """Whether no other follows this attempt; the first is 1."""
        return attempt > self.max_num_load_retries


DEFAULT_RETRIES = LoadRetries()
