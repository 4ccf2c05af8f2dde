"""Every instance of every version that the manager has not yet seen the end of, and which of them speaks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from types import MappingProxyType

from pyserving.lifecycle.harness import LoaderHarness, State
from pyserving.types import ServableId, ServableRequest

_NONE: Mapping[int, LoaderHarness] = MappingProxyType({})


class Instances:
    """A version has one current instance, whose states are its own. It may have a successor, which is to take the
    place of one that serves replaced files, and others that are on their way out: they lost their place, or were
    called off while they loaded.
    """

    def __init__(self) -> None:
        self._current: dict[str, dict[int, LoaderHarness]] = {}
        self._successors: dict[ServableId, LoaderHarness] = {}
        self._alive: dict[ServableId, set[LoaderHarness]] = {}
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def names(self) -> list[str]:
        """The models that have a current instance."""
        return list(self._current)

    def of(self, name: str) -> Mapping[int, LoaderHarness]:
        """The current instances of a model by version. Not to be kept: it may change."""
        return self._current.get(name, _NONE)

    def current(self, id: ServableId) -> LoaderHarness | None:
        return self.of(id.name).get(id.version)

    def successor(self, id: ServableId) -> LoaderHarness | None:
        return self._successors.get(id)

    def is_current(self, harness: LoaderHarness) -> bool:
        return self.current(harness.id) is harness

    def is_successor(self, harness: LoaderHarness) -> bool:
        return self._successors.get(harness.id) is harness

    def alive(self, id: ServableId) -> Collection[LoaderHarness]:
        """All instances of a version."""
        return self._alive.get(id, ())

    def add(self, harness: LoaderHarness) -> None:
        """The current instance of its version, which has none."""
        self._live(harness)
        self._current.setdefault(harness.id.name, {})[harness.id.version] = harness

    def add_successor(self, harness: LoaderHarness) -> None:
        self._live(harness)
        self._successors[harness.id] = harness

    def succeed(self, successor: LoaderHarness) -> LoaderHarness:
        """The successor is the current instance from now on. Gives the one that was, which lives on."""
        del self._successors[successor.id]
        instances = self._current[successor.id.name]
        replaced, instances[successor.id.version] = instances[successor.id.version], successor
        return replaced

    def dismiss(self, successor: LoaderHarness) -> None:
        """It is no successor any more, and lives on until it is dropped."""
        del self._successors[successor.id]

    def drop(self, harness: LoaderHarness) -> None:
        """It is gone."""
        name, version = harness.id.name, harness.id.version
        if self.is_current(harness):
            del self._current[name][version]
            if not self._current[name]:
                del self._current[name]
        elif self.is_successor(harness):
            del self._successors[harness.id]
        self._alive[harness.id].remove(harness)
        if not self._alive[harness.id]:
            del self._alive[harness.id]
        if not self._alive:
            self._is_empty.set()

    def serving_map(self) -> Mapping[ServableRequest, LoaderHarness]:
        """What each request for a version, or for the latest one, leads to now."""
        serving: dict[ServableRequest, LoaderHarness] = {}
        for name, instances in self._current.items():
            for version in sorted(v for v, harness in instances.items() if harness.state is State.READY):
                serving[ServableRequest(name, version)] = instances[version]
                serving[ServableRequest(name)] = instances[version]  # the largest comes last
        return serving

    async def gone(self) -> None:
        """Returns when none is alive."""
        await self._is_empty.wait()

    def _live(self, harness: LoaderHarness) -> None:
        self._alive.setdefault(harness.id, set()).add(harness)
        self._is_empty.clear()
