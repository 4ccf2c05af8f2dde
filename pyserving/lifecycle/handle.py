"""ServableHandle: what a request holds while it is in a servable."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from pyserving.lifecycle.harness import LoaderHarness
from pyserving.types import ServableId


class ServableHandle:
    """Keeps a version loaded until it is closed. `with handle as servable:` closes it."""

    __slots__ = ("_harness", "_is_open", "_on_closed")

    def __init__(self, harness: LoaderHarness, on_closed: Callable[[LoaderHarness], None]) -> None:
        harness.in_flight += 1
        self._harness = harness
        self._on_closed = on_closed
        self._is_open = True

    @property
    def id(self) -> ServableId:
        return self._harness.id

    @property
    def servable(self) -> Any:
        """What the loader gave; only while the handle is open."""
        return self._harness.servable

    def copy(self) -> ServableHandle:
        """Another handle on the same version, whatever the serving map says meanwhile."""
        if not self._is_open:
            raise RuntimeError(f"The handle on {self.id} is closed")
        return ServableHandle(self._harness, self._on_closed)

    def close(self) -> None:
        """The version may be unloaded, as far as this handle is concerned. Closing twice is closing once."""
        if not self._is_open:
            return
        self._is_open = False
        self._harness.in_flight -= 1
        self._on_closed(self._harness)

    def __enter__(self) -> Any:
        return self._harness.servable

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
