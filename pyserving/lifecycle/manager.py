"""Makes the aspired versions the served ones: loads, retries, swaps over, and unloads when the last request has left.

Everything here runs on the loop. Only `Loader.load` and `Loader.unload` run in threads, handed over through Workers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from pyserving.errors import Cancelled, NotFound, ServingError, error_for
from pyserving.lifecycle.attempt import Action, Attempt, kept, readable
from pyserving.lifecycle.handle import ServableHandle
from pyserving.lifecycle.harness import Loader, LoaderHarness, State
from pyserving.lifecycle.instances import Instances
from pyserving.lifecycle.policy import Load, Policy, VersionSnapshot, availability_preserving
from pyserving.lifecycle.retries import DEFAULT_RETRIES, CallLater, LoadRetries, call_later
from pyserving.lifecycle.turns import Turns
from pyserving.types import AspiredVersion, ManagerState, ServableId, ServableRequest, ServableState
from pyserving.workers import Workers

_log = logging.getLogger(__name__)

_SERVES_AS_IT_WAS = "Files of this version were replaced and cannot be loaded; it serves as it was before"


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
        retries: LoadRetries = DEFAULT_RETRIES,
        call_later: CallLater = call_later,
        *,
        on_attempt: Callable[[Attempt], None] = lambda attempt: None,
        load_patience_seconds: float | None = None,
        unload_patience_seconds: float | None = None,
        reload_replaced_versions: bool = False,
    ) -> None:
        """`publish`, `on_attempt` and the callbacks below may read the manager; a wish set from within is a mistake.

        `on_attempt` hears of each load and unload that is over, before any state is published for it. A load or an
        unload that takes longer than its patience has another thread stand in for its own; None has none.
        """
        self._make_loader = make_loader
        self._publish = publish
        self._policy = policy
        self._retries = retries
        self._call_later = call_later
        self._on_attempt = on_attempt
        self._reload_replaced_versions = reload_replaced_versions
        self._loads = Turns(loading, self._attempt_begins, self._attempt_over, load_patience_seconds, call_later)
        self._unloads = Turns(unloading, _unload_of, self._unloaded, unload_patience_seconds, call_later)
        self._aspired: dict[str, dict[int, AspiredVersion]] = {}
        self._instances = Instances()
        self._serving: Mapping[ServableRequest, LoaderHarness] = {}
        self._is_closing = False
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
        for name in self._instances.names():
            self._reconcile(name)
        await self._instances.gone()

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
        """Begin a failing version, or the failing reload of one that serves replaced files, afresh.

        It has all its attempts before it; one that runs now is the first of them. Any other version is left alone.
        """
        harness = self._instances.current(id)
        if harness is None:
            return
        attempted = self._instances.successor(id) or harness
        if attempted.is_failing:
            self._forget(attempted)
        elif attempted.is_attempting:
            self._count_afresh(attempted)
        harness.is_outdated |= harness.reload_error is not None
        self._reconcile(id.name)

    def files_changed(self, id: ServableId) -> None:
        """Have a version read its files again, which are others now and whole.

        One that is failing begins afresh, at once or when the attempt that runs now has failed, too. One that serves is
        loaded anew if the manager was made with `reload_replaced_versions`: a second copy loads while the first one
        serves, and takes its place. Should that fail, the first one serves on, AVAILABLE with the error as its status.
        """
        harness = self._instances.current(id)
        if harness is None:
            return
        harness.is_outdated = harness.is_attempting or harness.state is State.READY
        if (successor := self._instances.successor(id)) is not None:
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
        return ServableHandle(harness, self._unload_if_unused)

    @property
    def is_serving(self) -> bool:
        """Whether any version is AVAILABLE. May be asked in any thread."""
        return bool(self._serving)

    def available_versions(self, name: str) -> list[int]:
        """The versions that requests can reach now, smallest first."""
        return sorted(r.version for r in self._serving if r.name == name and r.version is not None)

    def is_aspired(self, id: ServableId) -> bool:
        """Whether a version is wished for now."""
        return id.version in self._aspired.get(id.name, {})

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
            harness = self._instances.of(name)[action.version]
            if isinstance(action, Load):
                self._load(harness)
            else:
                self._quiesce(harness)
        self._loads.give()

    def _unaspire(self, name: str) -> None:
        """Tell each version that the wish leaves it out; those that are ready are the policy's to unload."""
        wish = self._aspired.get(name, {})
        for version, harness in list(self._instances.of(name).items()):
            wished = wish.get(version)
            if harness.state is State.READY:
                harness.is_aspired = wished is not None  # one that comes back before its unload began serves on
                if wished is None and (successor := self._instances.successor(harness.id)) is not None:
                    self._instances.dismiss(successor)
                    self._abandon(successor)
            elif wished is None and harness.is_aspired:
                self._abandon(harness)
            elif wished is not None and harness.is_failing and harness.path != wished.path:
                self._forget(harness)

    def _abandon(self, harness: LoaderHarness) -> None:
        """No longer wished before it was ready. An attempt that runs may run to its end; its servable is not served."""
        harness.is_aspired = False
        if harness.state is State.ERROR:
            self._forget(harness)
        elif harness.is_attempting:
            harness.loader.cancel()
            self._count_afresh(harness)  # should it be wished for again, what failed before is no answer
        else:
            self._end(harness, State.ERROR, harness.error or _cancelled())

    def _admit(self, name: str) -> None:
        """A version whose old instances are on their way out is admitted once they are gone."""
        for aspired in self._aspired.get(name, {}).values():
            if not self._instances.alive(aspired.id):
                self._instances.add(self._new_harness(aspired))
                self._publish(ServableState(aspired.id, ManagerState.START))

    def _renew(self, name: str) -> None:
        """Begin to load another copy of each version that serves what is no longer in its files."""
        if not self._reload_replaced_versions:
            return
        for harness in self._instances.of(name).values():
            is_stale = harness.state is State.READY and harness.is_aspired and harness.is_outdated
            if is_stale and not self._is_loading(harness.id):
                successor = self._new_harness(self._aspired[name][harness.id.version])
                self._instances.add_successor(successor)
                self._load(successor)

    def _is_loading(self, id: ServableId) -> bool:
        """Whether a load of the version runs or is to run, even one that was called off: there are never two."""
        return any(harness.state is State.LOADING for harness in self._instances.alive(id))

    def _new_harness(self, aspired: AspiredVersion) -> LoaderHarness:
        return LoaderHarness(aspired, self._make_loader(aspired))

    def _snapshots(self, name: str) -> Iterator[VersionSnapshot]:
        instances = self._instances.of(name)
        for version, harness in instances.items():
            yield VersionSnapshot(version, harness.state, harness.is_aspired)
        for version in self._aspired.get(name, {}):
            if version not in instances or not instances[version].is_aspired:
                # It waits for its old instances to go. It counts as coming, so that what serves meanwhile stays.
                yield VersionSnapshot(version, State.LOADING, is_aspired=True)

    # Loading.

    def _load(self, harness: LoaderHarness) -> None:
        harness.become(State.LOADING)
        self._loads.wait(harness)

    def _attempt_begins(self, harness: LoaderHarness) -> Callable[[], Any]:
        harness.attempts += 1
        harness.is_attempting = True
        if harness.attempts == 1:
            _log.info("Loading servable version %s", harness.id)
            self._tell(harness, ManagerState.LOADING)
        return harness.loader.load

    def _count_afresh(self, harness: LoaderHarness) -> None:
        """Whoever looks is to wait for the attempt that runs, and not to be told of those before it."""
        harness.attempts = 1
        if harness.error is not None:
            harness.error = None
            self._tell(harness, ManagerState.LOADING)

    def _attempt_over(self, harness: LoaderHarness, attempt: asyncio.Future[Any]) -> None:
        harness.is_attempting = False
        error = attempt.exception()
        self._on_attempt(Attempt(harness.id, Action.LOAD, harness.loader, None if error is None else kept(error)))
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
        whole = kept(error)
        reason = readable(whole)
        is_news = harness.error is None or harness.error.message != reason.message
        trace = error if is_news and not isinstance(error, ServingError) else None
        harness.error = reason
        if self._instances.is_successor(harness):
            self._reload_failed(harness.id, reason)
        if not harness.is_aspired:
            _log.info("Loading of servable version %s, no longer wanted, failed: %s", harness.id, whole.status)
            self._end(harness, State.ERROR, reason)
        elif harness.is_outdated:
            _log.warning("Files of servable version %s changed while its load failed: %s", harness.id, whole.status)
            self._forget(harness)  # and begun afresh
        elif self._retries.is_last(harness.attempts):
            message = "Giving up loading servable version %s after attempt %d: %s"
            _log.error(message, harness.id, harness.attempts, whole.status, exc_info=trace)
            self._instances.of(harness.id.name)[harness.id.version].is_outdated = False  # its files cannot be had
            self._end(harness, State.ERROR, reason)
        else:
            seconds = self._retries.wait_seconds
            message = "Attempt %d to load servable version %s failed, the next is in %g s: %s"
            _log.warning(message, harness.attempts, harness.id, seconds, whole.status, exc_info=trace)
            harness.retry_timer = self._call_later(seconds, partial(self._retry_due, harness))
            self._tell(harness, ManagerState.LOADING, reason)

    def _reload_failed(self, id: ServableId, reason: ServingError) -> None:
        """The version serves on, AVAILABLE; its status is where an operator sees that it is not what they put there."""
        error = error_for(reason.code, f"{_SERVES_AS_IT_WAS}: {reason.message}")
        self._instances.of(id.name)[id.version].reload_error = error
        self._publish(ServableState(id, ManagerState.AVAILABLE, error))

    def _retry_due(self, harness: LoaderHarness) -> None:
        harness.retry_timer = None
        self._loads.wait(harness)
        self._loads.give()

    def _serve(self, harness: LoaderHarness, servable: Any) -> None:
        harness.become(State.READY)
        harness.servable = servable
        harness.error = None
        replaced = self._instances.succeed(harness) if self._instances.is_successor(harness) else None
        self._swap_serving_map()
        _log.info("Successfully loaded servable version %s", harness.id)
        self._tell(harness, ManagerState.AVAILABLE)
        if replaced is not None:
            replaced.become(State.QUIESCING)
            self._unload_if_unused(replaced)

    def _swap_serving_map(self) -> None:
        self._serving = self._instances.serving_map()
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
        self._unloads.wait(harness)
        self._unloads.give()

    def _unloaded(self, harness: LoaderHarness, unload: asyncio.Future[None]) -> None:
        error = unload.exception()
        reason = None if error is None else kept(error)
        self._on_attempt(Attempt(harness.id, Action.UNLOAD, harness.loader, reason))
        if reason is None:
            _log.info("Done unloading servable version %s", harness.id)
            self._end(harness, State.DISABLED, harness.error)
        else:
            _log.error("Unloading servable version %s failed", harness.id, exc_info=error)
            self._end(harness, State.ERROR, readable(reason))
        self._reconcile(harness.id.name)

    def _end(self, harness: LoaderHarness, state: State, health: ServingError | None) -> None:
        """A version that failed while it is aspired stays, so that it is not begun again by itself."""
        harness.become(state)
        is_current = self._instances.is_current(harness)
        if not harness.is_aspired or not is_current:
            self._forget(harness)
        if is_current:
            self._publish(ServableState(harness.id, ManagerState.END, health))

    def _forget(self, harness: LoaderHarness) -> None:
        self._loads.call_off(harness)
        if harness.retry_timer is not None:
            harness.retry_timer.cancel()
        self._instances.drop(harness)

    # What others see.

    def _tell(self, harness: LoaderHarness, state: ManagerState, health: ServingError | None = None) -> None:
        """Of those that others speak for, nothing: successors, and whatever is on its way out."""
        if self._instances.is_current(harness):
            self._publish(ServableState(harness.id, state, health))


def _unload_of(harness: LoaderHarness) -> Callable[[], Any]:
    return harness.loader.unload


def _cancelled() -> ServingError:
    return Cancelled("Loading of servable cancelled")
