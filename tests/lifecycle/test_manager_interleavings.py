"""Random wishes, completions, requests and waits in any order: what holds at every moment, and once all is settled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pyserving.errors import NotFound
from pyserving.lifecycle.handle import ServableHandle
from pyserving.lifecycle.manager import AspiredVersionsManager
from pyserving.lifecycle.policy import Policy, availability_preserving, resource_preserving
from pyserving.lifecycle.retries import LoadRetries
from pyserving.types import AspiredVersion, ManagerState, ServableId, ServableRequest, ServableState
from tests.fakes import FakeClock, FakeLoaders, HeldWorkers, RecordedStates

START, LOADING, AVAILABLE, UNLOADING, END = ManagerState
_MAY_FOLLOW = {
    None: {START},
    START: {LOADING, END},  # END: called off before its turn
    LOADING: {LOADING, AVAILABLE, END, START},  # LOADING: an attempt failed; START: begun afresh between attempts
    AVAILABLE: {UNLOADING, AVAILABLE},  # AVAILABLE: replaced by a copy of its new files
    UNLOADING: {END},
    END: {START},
}
_NAMES = ("m", "n")
_FLAKY, _BROKEN = 3, 4  # versions: the one fails its first load, the other every load
_VERSIONS = (1, 2, _FLAKY, _BROKEN)

names = st.sampled_from(_NAMES)
wishes = st.sets(st.sampled_from(_VERSIONS), max_size=3)
numbers = st.integers(min_value=0, max_value=100)


class Interleavings(RuleBasedStateMachine):
    policy: Policy = staticmethod(availability_preserving)
    reload_replaced_versions = False

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.failures: list[BaseException] = []  # of callbacks, which a loop would only log
        self.loop.set_exception_handler(lambda _, context: self.failures.append(context["exception"]))
        self.loaders = FakeLoaders()
        self.loaders.fail(_FLAKY, times=1)
        self.loaders.fail(_BROKEN)
        self.loading, self.unloading = HeldWorkers("load", threads=2), HeldWorkers("unload")
        self.clock = FakeClock()
        self.states = RecordedStates()
        self.latest: dict[ServableId, ManagerState] = {}
        self.wished: dict[str, set[int]] = {name: set() for name in _NAMES}
        self.handles: list[ServableHandle] = []
        self.manager = AspiredVersionsManager(
            self.loaders,
            self.loading,
            self.unloading,
            self._published,
            policy=self.policy,
            retries=LoadRetries(2, 1_000_000),
            call_later=self.clock.call_later,
            reload_replaced_versions=self.reload_replaced_versions,
        )
        self.available: dict[str, list[int]] = {name: [] for name in _NAMES}
        self.manager.serving_map_changed.append(self._swapped)

    # What may happen.

    @rule(name=names, versions=wishes)
    def wish(self, name: str, versions: set[int]) -> None:
        self.wished[name] = versions
        self._run(self._wish(name, versions))

    @precondition(lambda self: self.loading.held)
    @rule(number=numbers)
    def a_load_is_over(self, number: int) -> None:
        self._run(self.loading.release_one(self.loading.held[number % len(self.loading.held)]))

    @precondition(lambda self: self.unloading.held)
    @rule(number=numbers)
    def an_unload_is_over(self, number: int) -> None:
        self._run(self.unloading.release_one(self.unloading.held[number % len(self.unloading.held)]))

    @rule(name=names, version=st.sampled_from((None, *_VERSIONS)))
    def a_request_comes(self, name: str, version: int | None) -> None:
        available = self.manager.available_versions(name)
        try:
            handle = self.manager.get_servable_handle(ServableRequest(name, version))
        except NotFound:
            assert version not in available
            assert version is not None or not available
        else:
            assert handle.id == ServableId(name, max(available) if version is None else version)
            self.handles.append(handle)

    @precondition(lambda self: self.handles)
    @rule(number=numbers, is_copied=st.booleans())
    def a_request_leaves(self, number: int, is_copied: bool) -> None:
        handle = self.handles.pop(number % len(self.handles))
        if is_copied:
            self.handles.append(handle.copy())
        self._run(self._close(handle))

    @precondition(lambda self: self.clock.due_in)
    @rule()
    def time_passes(self) -> None:
        self._run(self._pass_time())

    @rule(name=names, version=st.sampled_from(_VERSIONS))
    def somebody_asks_for_another_try(self, name: str, version: int) -> None:
        self._run(self._retry(ServableId(name, version)))

    @rule(name=names, version=st.sampled_from(_VERSIONS))
    def files_change(self, name: str, version: int) -> None:
        self._run(self._files_changed(ServableId(name, version)))

    # What holds at every moment.

    def _published(self, state: ServableState) -> None:
        before = self.latest.get(state.id)
        assert state.manager_state in _MAY_FOLLOW[before], f"{before} then {state}"
        self.latest[state.id] = state.manager_state

    def _swapped(self) -> None:
        for name in _NAMES:
            before, self.available[name] = self.available[name], self.manager.available_versions(name)
            if self.policy is availability_preserving and before and self.wished[name]:
                assert self.available[name], f"nothing serves {name} any more, though {self.wished[name]} is wished"

    @invariant()
    def no_handle_outlives_its_servable(self) -> None:
        assert all(handle.servable is not None and not handle.servable.is_closed for handle in self.handles)

    @invariant()
    def one_load_of_a_version_at_a_time(self) -> None:
        loading = [load.__self__.aspired.id for load in self.loading.held]  # type: ignore[attr-defined]
        assert len(loading) <= self.loading.threads
        # A replacement that was called off may still run when its version is wished again.
        assert len(loading) == len(set(loading)) or self.reload_replaced_versions

    @invariant()
    def one_instance_of_a_version_at_a_time(self) -> None:
        alive = [m.aspired.id for m in self.loaders.made if m.servable is not None and not m.servable.is_closed]
        assert len(alive) == len(set(alive)) or self.reload_replaced_versions

    @invariant()
    def available_is_what_was_published_so(self) -> None:
        published = {id for id, state in self.latest.items() if state is AVAILABLE}
        assert published == {ServableId(n, v) for n in _NAMES for v in self.manager.available_versions(n)}

    # What holds once everything is settled, and after leaving.

    def teardown(self) -> None:
        try:
            self._run(self._settle())
            for name in _NAMES:
                self._check_settled(name)
            self._run(self._leave())
            assert set(self.latest.values()) <= {END}
            assert all(m.servable is None or m.unloads == 1 for m in self.loaders.made)
            assert self.clock.due_in == []
        finally:
            self.loop.close()

    def _check_settled(self, name: str) -> None:
        available, loadable = set(self.manager.available_versions(name)), self.wished[name] - {_BROKEN}
        assert loadable <= available
        is_kept = self.policy is availability_preserving and self.wished[name] and not loadable
        if is_kept:
            assert len(available) <= 1  # the last good one, while all that is wished fails
        else:
            assert available == loadable
        for version in self.wished[name] - loadable:
            assert self.latest[ServableId(name, version)] is END

    async def _settle(self) -> None:
        while self.handles:
            self.handles.pop().close()
        while self.loading.held or self.unloading.held or self.clock.due_in:
            await self.loading.release()
            await self.unloading.release()
            self.clock.advance(1)

    async def _leave(self) -> None:
        self.wished = {name: set() for name in _NAMES}
        await asyncio.gather(self.manager.__aexit__(None, None, None), self.unloading.release())

    # Inside the loop.

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(coroutine)
        if self.failures:
            raise self.failures.pop()

    async def _wish(self, name: str, versions: set[int]) -> None:
        aspired = [AspiredVersion(ServableId(name, version), f"/{name}/{version}") for version in sorted(versions)]
        self.manager.set_aspired_versions(name, aspired)

    async def _close(self, handle: ServableHandle) -> None:
        handle.close()

    async def _pass_time(self) -> None:
        self.clock.advance(self.clock.due_in[0])

    async def _retry(self, id: ServableId) -> None:
        self.manager.retry(id)

    async def _files_changed(self, id: ServableId) -> None:
        self.manager.files_changed(id)


class ResourcePreservingInterleavings(Interleavings):
    policy = staticmethod(resource_preserving)


class ReloadingInterleavings(Interleavings):
    reload_replaced_versions = True


_BOUNDED = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestAvailabilityPreserving = pytest.mark.slow(Interleavings.TestCase)
TestAvailabilityPreserving.settings = _BOUNDED
TestResourcePreserving = pytest.mark.slow(ResourcePreservingInterleavings.TestCase)
TestResourcePreserving.settings = _BOUNDED
TestReloadingReplacedVersions = pytest.mark.slow(ReloadingInterleavings.TestCase)
TestReloadingReplacedVersions.settings = _BOUNDED
