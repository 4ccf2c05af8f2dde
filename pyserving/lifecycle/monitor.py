"""Remembers the latest state of every version, tells whoever subscribed, and wakes whoever waits for something."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from pyserving.types import ManagerState, ServableId, ServableState

_log = logging.getLogger(__name__)

_ENDED_VERSIONS_KEPT = 10


class ServableStateMonitor:
    """The latest states, by model and version.

    A version that ended is remembered until ten others of its model ended after it; a live one for as long as it lives,
    and one that failed for as long as it is wished for (see `keep_while`).
    """

    def __init__(self) -> None:
        self._states: dict[str, dict[int, ServableState]] = {}
        self._subscribers: list[Callable[[ServableState], None]] = []
        self.forgotten: list[Callable[[ServableId], None]] = []
        """Called for each version that is remembered no more."""
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[bool]]] = []
        self._is_kept: Callable[[ServableId], bool] = lambda id: False

    def keep_while(self, is_kept: Callable[[ServableId], bool]) -> None:
        """Do not count among the ended ones, and do not forget, the versions of which this holds."""
        self._is_kept = is_kept

    def publish(self, state: ServableState) -> None:
        """Remember `state`, then tell the subscribers in their order, then those who wait."""
        self._remember(state)
        for callback in self._subscribers:
            try:
                callback(state)
            except Exception:  # an observer's trouble must not stop the manager in the middle of a change
                _log.exception("A subscriber failed at the state of %s", state.id)
        self.recheck()

    def recheck(self) -> None:
        """Ask again whoever waits: something that a predicate looks at has changed without a state being published."""
        for predicate, met in self._waiters:
            _settle_if_met(predicate, met)

    def subscribe(self, callback: Callable[[ServableState], None]) -> None:
        """Call `callback` on the loop with every state from now on."""
        self._subscribers.append(callback)

    def names(self) -> list[str]:
        """Every model that was ever seen, in the order they came."""
        return list(self._states)

    def versions(self, name: str) -> list[ServableState]:
        """The versions of a model, largest number first; empty for a model never seen."""
        states = self._states.get(name, {})
        return [states[version] for version in sorted(states, reverse=True)]

    def state(self, id: ServableId) -> ServableState | None:
        return self._states.get(id.name, {}).get(id.version)

    async def wait_until(self, predicate: Callable[[], bool], deadline: float | None = None) -> bool:
        """True as soon as `predicate()` holds; False if `deadline`, in `loop.time()` seconds, comes first.

        It is asked now and within every publish, so a state that passes in an instant is not missed. What it raises is
        raised here.
        """
        if predicate():
            return True
        loop = asyncio.get_running_loop()
        met: asyncio.Future[bool] = loop.create_future()
        waiter = (predicate, met)
        self._waiters.append(waiter)
        timer = None if deadline is None else loop.call_at(deadline, _settle, met, False)
        try:
            return await met
        finally:
            self._waiters.remove(waiter)
            if timer is not None:
                timer.cancel()

    def _remember(self, state: ServableState) -> None:
        states = self._states.setdefault(state.id.name, {})
        states.pop(state.id.version, None)
        states[state.id.version] = state  # now the last, so that ended ones stand in the order they ended
        ended = [
            version
            for version, known in states.items()
            if known.manager_state is ManagerState.END and not self._is_kept(known.id)
        ]
        for version in ended[:-_ENDED_VERSIONS_KEPT]:
            id = states.pop(version).id
            for callback in self.forgotten:
                callback(id)


def _settle_if_met(predicate: Callable[[], bool], met: asyncio.Future[bool]) -> None:
    if met.done():
        return
    try:
        if predicate():
            met.set_result(True)
    except Exception as error:  # it belongs to the one who waits, not to the one who publishes
        met.set_exception(error)


def _settle(met: asyncio.Future[bool], result: bool) -> None:
    if not met.done():
        met.set_result(result)
