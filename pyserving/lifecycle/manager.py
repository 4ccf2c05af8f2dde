"""Makes the aspired versions the served ones: loads, retries, swaps over, and unloads when the last request has left.

Everything here runs on the loop. Only `Loader.load` and `Loader.unload` run in threads, handed over through Workers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, TypeAlias

from pyserving.errors import Cancelled, Internal, NotFound, ServingError, error_for
from pyserving.lifecycle.harness import Loader, LoaderHarness, State
from pyserving.lifecycle.policy import Load, Policy, VersionSnapshot, availability_preserving
from pyserving.types import AspiredVersion, ManagerState, ServableId, ServableRequest, ServableState
from pyserving.workers import Workers

_log = logging.getLogger(__name__)

CallLater: TypeAlias = Callable[[float, Callable[[], None]], asyncio.TimerHandle]
"""`call_later(seconds, callback)`."""


def _call_later(seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, callback)


@dataclass(frozen=True, slots=True)
class LoadRetries:
    """How often a load that failed is tried again; the defaults are tensorflow_model_server's."""

    max_num_load_retries: int = 5
    """Attempts after the first."""
    load_retry_interval_micros: int = 60_000_000
    """Negative: no wait."""


class AspiredVersionsManager:
    """Serves of each model the versions last aspired, one moment after another without a gap.

    Whatever changes (a wish, a load or an unload that is over, a handle that closes) ends in `_reconcile`, which asks
    the policy until it wants nothing more; nothing polls. As an async context manager it leaves only when every version
    is unloaded and every handle closed; then the workers may be closed.
    """

    def __init__(
        self,
        make_loader: Callable[[AspiredVersion], Loader],
        loading: Workers,
        unloading: Workers,
        publish: Callable[[ServableState], None],
        policy: Policy = availability_preserving,
        retries: LoadRetries = LoadRetries(),
        call_later: CallLater = _call_later,
        *,
        reload_replaced_versions: bool = False,
    ) -> None:
        """`publish` and the callbacks below may read the manager; a wish set from within them is a mistake."""
        self._make_loader = make_loader
        self._loading = loading
        self._unloading = unloading
        self._publish = publish
        self._policy = policy
        self._retries = retries
        self._call_later = call_later
        self._reload_replaced_versions = reload_replaced_versions
        self._aspired: dict[str, dict[int, AspiredVersion]] = {}
        self._harnesses: dict[str, dict[int, LoaderHarness]] = {}
        self._successors: dict[ServableId, LoaderHarness] = {}  # to take the place of one that serves replaced files
        self._alive: set[LoaderHarness] = set()  # all these, and those whose place was taken
        self._turns: deque[LoaderHarness] = deque()  # to be loaded as soon as a thread is free
        self._serving: Mapping[ServableRequest, LoaderHarness] = {}
        self._is_closing = False
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self.serving_map_changed: list[Callable[[], None]] = []
        """Called after each swap of the serving map, before AVAILABLE and after UNLOADING are published."""

    async def __aenter__(self) -> AspiredVersionsManager:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Want nothing any more, and wait until running loads, open handles and unloads are over."""
        self._is_closing = True
        self._aspired.clear()
        for name in list(self._harnesses):
            self._reconcile(name)
        await self._is_empty.wait()

    def set_aspired_versions(self, name: str, versions: Sequence[AspiredVersion]) -> None:
        """Replace the wish for a model: versions left out are unloaded, an empty list unloads them all.

        Numbers are compared, not paths: a version that is loaded stays. One that is failing begins afresh when its path
        is another.
        """
        if self._is_closing:
            return
        self._aspired[name] = {aspired.id.version: aspired for aspired in versions}
        self._reconcile(name)

    def retry(self, id: ServableId) -> None:
        """Begin a failing version afresh, with all its attempts before it; any other is left alone."""
        harness = self._current(id)
        if harness is not None and harness.is_failing:
            self._forget(harness)
            self._reconcile(id.name)

    def files_changed(self, id: ServableId) -> None:
        """Have a version read its files again, which are others now and whole.

        One that is failing begins afresh, at once or when the attempt that runs now has failed, too. One that serves is
        loaded anew if the manager was made with `reload_replaced_versions`: a second copy loads while the first one
        serves, and takes its place. Should that fail for good, the first one serves on.
        """
        harness = self._current(id)
        if harness is None:
            return
        harness.is_outdated = harness.is_attempting or harness.state is State.READY
        if (successor := self._successors.get(id)) is not None:
            if successor.is_attempting:
                successor.is_outdated = True
            else:
                self._forget(successor)
        elif harness.is_failing:
            self._forget(harness)
        self._reconcile(id.name)

    def get_servable_handle(self, request: ServableRequest) -> ServableHandle:
        """The servable stays loaded for as long as the handle is open. NotFound when no AVAILABLE version fits."""
        try:
            harness = self._serving[request]
        except KeyError:
            raise NotFound(f"Servable not found for request: {request}") from None
        return ServableHandle(self, harness)

    def available_versions(self, name: str) -> list[int]:
        """The versions that requests can reach now, smallest first."""
        return sorted(r.version for r in self._serving if r.name == name and r.version is not None)

    def aspired_versions(self, name: str) -> list[int]:
        """The versions of a model that are wished for now, smallest first."""
        return sorted(self._aspired.get(name, {}))

    # Deciding: from a wish to actions.

    def _reconcile(self, name: str) -> None:
        """Bring what is managed in line with the wish, then do what the policy says until it is content."""
        self._unaspire(name)
        self._admit(name)
        self._renew(name)
        while (action := self._policy(list(self._snapshots(name)))) is not None:
            harness = self._harnesses[name][action.version]
            if isinstance(action, Load):
                self._load(harness)
            else:
                self._quiesce(harness)
        self._begin_attempts()

    def _unaspire(self, name: str) -> None:
        """Tell each version that the wish leaves it out; those that are ready are the policy's to unload."""
        wish = self._aspired.get(name, {})
        for version, harness in list(self._harnesses.get(name, {}).items()):
            wished = wish.get(version)
            if harness.state is State.READY:
                harness.is_aspired = wished is not None  # one that comes back before its unload began serves on
                if wished is None and harness.id in self._successors:
                    self._abandon(self._successors.pop(harness.id))
            elif wished is None and harness.is_aspired:
                self._abandon(harness)
            elif wished is not None and harness.is_failing and harness.path != wished.path:
                self._forget(harness)

    def _abandon(self, harness: LoaderHarness) -> None:
        """No longer wished before it was ready. An attempt that runs cannot be stopped; its servable is not served."""
        harness.is_aspired = False
        if harness.state is State.ERROR:
            self._forget(harness)
        elif not harness.is_attempting:
            self._end(harness, State.ERROR, harness.error or _cancelled())

    def _admit(self, name: str) -> None:
        """A version whose old instance is on its way out is admitted once that is gone."""
        for version, aspired in list(self._aspired.get(name, {}).items()):
            harnesses = self._harnesses.setdefault(name, {})
            if version not in harnesses:
                harnesses[version] = self._new_harness(aspired)
                self._publish(ServableState(aspired.id, ManagerState.START))

    def _renew(self, name: str) -> None:
        """Begin to load another copy of each version that serves what is no longer in its files."""
        if not self._reload_replaced_versions:
            return
        for harness in self._harnesses.get(name, {}).values():
            is_stale = harness.state is State.READY and harness.is_aspired and harness.is_outdated
            if is_stale and harness.id not in self._successors:
                aspired = self._aspired[name][harness.id.version]
                successor = self._successors[harness.id] = self._new_harness(aspired)
                self._load(successor)

    def _new_harness(self, aspired: AspiredVersion) -> LoaderHarness:
        harness = LoaderHarness(aspired, self._make_loader(aspired))
        self._alive.add(harness)
        self._is_empty.clear()
        return harness

    def _snapshots(self, name: str) -> Iterator[VersionSnapshot]:
        wish = self._aspired.get(name, {})
        for version, harness in self._harnesses.get(name, {}).items():
            yield VersionSnapshot(version, harness.state, harness.is_aspired)
            if version in wish and not harness.is_aspired:
                # Its next instance waits for this one to go. It counts as coming, so that what serves meanwhile stays.
                yield VersionSnapshot(version, State.LOADING, is_aspired=True)

    # Loading.

    def _load(self, harness: LoaderHarness) -> None:
        harness.become(State.LOADING)
        self._turns.append(harness)

    def _begin_attempts(self) -> None:
        """Hand over no more loads than there are threads: what waits its turn is still START and can be called off."""
        while self._turns and self._loading.unfinished < self._loading.threads:
            harness = self._turns.popleft()
            harness.attempts += 1
            harness.is_attempting = True
            if harness.attempts == 1:
                _log.info("Loading servable version %s", harness.id)
                self._tell(harness, ManagerState.LOADING)
            attempt = self._loading.submit(harness.loader.load)
            attempt.future.add_done_callback(partial(self._attempt_over, harness))

    def _attempt_over(self, harness: LoaderHarness, attempt: asyncio.Future[Any]) -> None:
        harness.is_attempting = False
        error = attempt.exception()
        if error is not None:
            self._attempt_failed(harness, error)
        elif harness.is_aspired:
            self._serve(harness, attempt.result())
        else:
            _log.info("Unloading just-loaded servable version %s", harness.id)
            harness.error = _cancelled()
            self._unload(harness)
        self._reconcile(harness.id.name)

    def _attempt_failed(self, harness: LoaderHarness, error: BaseException) -> None:
        kept = _kept(error)
        is_news = harness.error is None or harness.error.message != kept.message
        trace = error if is_news and not isinstance(error, ServingError) else None
        harness.error = kept
        if not harness.is_aspired:
            _log.info("Loading of servable version %s, no longer wanted, failed: %s", harness.id, kept.status)
            self._end(harness, State.ERROR, kept)
        elif harness.is_outdated:
            _log.warning("Files of servable version %s changed while its load failed: %s", harness.id, kept.status)
            self._forget(harness)  # and begun afresh
        elif harness.attempts > self._retries.max_num_load_retries:
            message = "Giving up loading servable version %s after attempt %d: %s"
            _log.error(message, harness.id, harness.attempts, kept.status, exc_info=trace)
            self._harnesses[harness.id.name][harness.id.version].is_outdated = False  # its files cannot be had
            self._end(harness, State.ERROR, kept)
        else:
            seconds = max(0.0, self._retries.load_retry_interval_micros / 1e6)
            message = "Attempt %d to load servable version %s failed, the next is in %g s: %s"
            _log.warning(message, harness.attempts, harness.id, seconds, kept.status, exc_info=trace)
            harness.retry_timer = self._call_later(seconds, partial(self._retry_due, harness))
            self._tell(harness, ManagerState.LOADING, kept)

    def _retry_due(self, harness: LoaderHarness) -> None:
        harness.retry_timer = None
        self._turns.append(harness)
        self._begin_attempts()

    def _serve(self, harness: LoaderHarness, servable: Any) -> None:
        harness.become(State.READY)
        harness.servable = servable
        harness.error = None
        replaced = self._replace(harness)
        self._swap_serving_map()
        _log.info("Successfully loaded servable version %s", harness.id)
        self._tell(harness, ManagerState.AVAILABLE)
        if replaced is not None:
            replaced.become(State.QUIESCING)
            self._unload_if_unused(replaced)

    def _replace(self, harness: LoaderHarness) -> LoaderHarness | None:
        """Give a successor its place; gives the one that had it."""
        if self._successors.get(harness.id) is not harness:
            return None
        del self._successors[harness.id]
        harnesses = self._harnesses[harness.id.name]
        replaced, harnesses[harness.id.version] = harnesses[harness.id.version], harness
        return replaced

    def _swap_serving_map(self) -> None:
        serving: dict[ServableRequest, LoaderHarness] = {}
        for name, harnesses in self._harnesses.items():
            for version in sorted(v for v, harness in harnesses.items() if harness.state is State.READY):
                serving[ServableRequest(name, version)] = harnesses[version]
                serving[ServableRequest(name)] = harnesses[version]  # the largest comes last
        self._serving = serving
        for callback in self.serving_map_changed:
            callback()

    # Unloading.

    def _quiesce(self, harness: LoaderHarness) -> None:
        harness.become(State.QUIESCING)
        _log.info("Quiescing servable version %s", harness.id)
        self._tell(harness, ManagerState.UNLOADING)
        self._swap_serving_map()
        self._unload_if_unused(harness)

    def _unload_if_unused(self, harness: LoaderHarness) -> None:
        if harness.state is State.QUIESCING and not harness.in_flight:
            _log.info("Unloading servable version %s", harness.id)
            self._unload(harness)

    def _unload(self, harness: LoaderHarness) -> None:
        harness.become(State.UNLOADING)
        harness.servable = None  # the loader alone still holds it
        unload = self._unloading.submit(harness.loader.unload)
        unload.future.add_done_callback(partial(self._unloaded, harness))

    def _unloaded(self, harness: LoaderHarness, unload: asyncio.Future[None]) -> None:
        error = unload.exception()
        if error is None:
            _log.info("Done unloading servable version %s", harness.id)
            self._end(harness, State.DISABLED, harness.error)
        else:
            _log.error("Unloading servable version %s failed", harness.id, exc_info=error)
            self._end(harness, State.ERROR, _kept(error))
        self._reconcile(harness.id.name)

    def _end(self, harness: LoaderHarness, state: State, health: ServingError | None) -> None:
        """A version that failed while it is aspired stays, so that it is not begun again by itself."""
        harness.become(state)
        is_current = self._current(harness.id) is harness
        if not harness.is_aspired or not is_current:
            self._forget(harness)
        if is_current:
            self._publish(ServableState(harness.id, ManagerState.END, health))

    def _forget(self, harness: LoaderHarness) -> None:
        if harness in self._turns:
            self._turns.remove(harness)
        if harness.retry_timer is not None:
            harness.retry_timer.cancel()
        name, version = harness.id.name, harness.id.version
        if self._current(harness.id) is harness:
            del self._harnesses[name][version]
            if not self._harnesses[name]:
                del self._harnesses[name]
        elif self._successors.get(harness.id) is harness:
            del self._successors[harness.id]
        self._alive.remove(harness)
        if not self._alive:
            self._is_empty.set()

    # What others see.

    def _current(self, id: ServableId) -> LoaderHarness | None:
        """The instance that a version's state is told of: not a successor, and none whose place was taken."""
        return self._harnesses.get(id.name, {}).get(id.version)

    def _tell(self, harness: LoaderHarness, state: ManagerState, health: ServingError | None = None) -> None:
        if self._current(harness.id) is harness:
            self._publish(ServableState(harness.id, state, health))


class ServableHandle:
    """Keeps a version loaded until it is closed. `with handle as servable:` closes it."""

    __slots__ = ("_harness", "_is_open", "_manager")

    def __init__(self, manager: AspiredVersionsManager, harness: LoaderHarness) -> None:
        harness.in_flight += 1
        self._manager = manager
        self._harness = harness
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
        return ServableHandle(self._manager, self._harness)

    def close(self) -> None:
        """The version may be unloaded, as far as this handle is concerned. Closing twice is closing once."""
        if not self._is_open:
            return
        self._is_open = False
        self._harness.in_flight -= 1
        self._manager._unload_if_unused(self._harness)

    def __enter__(self) -> Any:
        return self._harness.servable

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _cancelled() -> ServingError:
    return Cancelled("Loading of servable cancelled")


def _kept(error: BaseException) -> ServingError:
    """The error as states carry it: without its traceback, whose frames would keep a half-loaded model in memory."""
    if isinstance(error, ServingError):
        return error_for(error.code, error.message)
    return Internal(f"{type(error).__name__}: {error}")
