"""Random wishes, completions, requests and waits in any order: what holds at every moment, and once all is settled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyserving.errors import NotFound
from pyserving.lifecycle.handle import ServableHandle
from pyserving.lifecycle.manager import AspiredVersionsManager
from pyserving.lifecycle.policy import Policy, availability_preserving, resource_preserving
from pyserving.lifecycle.retries import LoadRetries
from pyserving.types import AspiredVersion, ManagerState, ServableId, ServableRequest, ServableState
from pyserving.workers import Job
from tests.fakes import FakeClock, FakeLoader, HeldWorkers

START, LOADING, AVAILABLE, UNLOADING, END = ManagerState
_MAY_FOLLOW = {
    None: {START},
    START: {LOADING, END},  # END: called off before its turn
    LOADING: {LOADING, AVAILABLE, END, START},  # LOADING: an attempt failed; START: begun afresh between attempts
    AVAILABLE: {UNLOADING},
    UNLOADING: {END},
    END: {START},
}
_NAMES = ("m", "n")
_FLAKY, _BROKEN = 3, 4  # versions: the one fails its first load, the other every load until its files are mended
_VERSIONS = (1, 2, _FLAKY, _BROKEN)
_IDS = [ServableId(name, version) for name in _NAMES for version in _VERSIONS]

# Chosen so that runs come back to the same few versions: it takes several events in one of them to go wrong.
names = st.sampled_from(("m", "m", "m", "n"))
wishes = st.sampled_from(((), (1,), (1,), (2,), (_FLAKY,), (_BROKEN,), (1, 2), (2, _FLAKY), (1, _BROKEN)))
numbers = st.integers(min_value=0, max_value=100)


@dataclass(frozen=True)
class Files:
    """What lies in a version's folder."""

    revision: int
    are_whole: bool


class FilesLoader(FakeLoader):
    """Loads what lay in the folder when a thread was given to it."""

    def __init__(self, aspired: AspiredVersion) -> None:
        super().__init__(aspired, failures=1 if aspired.id.version == _FLAKY else 0)
        self.read = Files(-1, are_whole=False)

    def load(self) -> Any:
        if not self.read.are_whole:
            self.failures = self.loads + 1
        return super().load()

    @property
    def is_in_memory(self) -> bool:
        return self.servable is not None and not self.servable.is_closed


class LoadingWorkers(HeldWorkers):
    """A load reads its files from the moment at which it is handed over."""

    def __init__(self, files: dict[ServableId, Files], threads: int) -> None:
        super().__init__("load", threads)
        self._files = files

    def submit(self, function: Callable[..., Any], *args: Any) -> Job[Any]:
        loader = _loader_of(function)
        loader.read = self._files[loader.aspired.id]
        return super().submit(function, *args)


def _loader_of(job: Any) -> FilesLoader:
    loader = job.__self__
    assert isinstance(loader, FilesLoader)
    return loader


class Interleavings(RuleBasedStateMachine):
    policy: Policy = staticmethod(availability_preserving)
    reload_replaced_versions = False

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.failures: list[BaseException] = []  # of callbacks, which a loop would only log
        self.loop.set_exception_handler(lambda _, context: self.failures.append(context["exception"]))
        self.files = {id: Files(0, are_whole=id.version != _BROKEN) for id in _IDS}
        self.loaders: list[FilesLoader] = []
        self.loading, self.unloading = LoadingWorkers(self.files, threads=2), HeldWorkers("unload", threads=2)
        self.clock = FakeClock()
        self.latest: dict[ServableId, ServableState] = {}
        self.wished: dict[str, set[int]] = {name: set() for name in _NAMES}
        self.handles: list[ServableHandle] = []
        self.leaves_in_the_middle = False
        self.manager = AspiredVersionsManager(
            self._make_loader,
            self.loading,
            self.unloading,
            self._published,
            policy=self.policy,
            retries=LoadRetries(2, 1_000_000),
            call_later=self.clock.call_later,
            load_patience_seconds=2,
            unload_patience_seconds=2,
            reload_replaced_versions=self.reload_replaced_versions,
        )
        self.available: dict[str, set[int]] = {name: set() for name in _NAMES}
        self.manager.serving_map_changed.append(self._swapped)

    @initialize(leaves_in_the_middle=st.booleans())
    def begin(self, leaves_in_the_middle: bool) -> None:
        self.leaves_in_the_middle = leaves_in_the_middle

    # What may happen.

    @rule(name=names, versions=wishes)
    def wish(self, name: str, versions: Sequence[int]) -> None:
        self.wished[name] = set(versions)
        aspired = [AspiredVersion(ServableId(name, version), f"/{name}/{version}") for version in versions]
        self._do(lambda: self.manager.set_aspired_versions(name, aspired))

    @precondition(lambda self: self.loading.held)
    @rule(number=numbers)
    def a_load_is_over(self, number: int) -> None:
        self._run(self.loading.release_one(self.loading.held[number % len(self.loading.held)]))

    @precondition(lambda self: self.unloading.held)
    @rule(number=numbers, has_failed=st.booleans())
    def an_unload_is_over(self, number: int, has_failed: bool) -> None:
        unload = self.unloading.held[number % len(self.unloading.held)]
        if has_failed:
            _loader_of(unload).unload_error = OSError("stuck")
        self._run(self.unloading.release_one(unload))

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
        self._do(handle.close)

    @precondition(lambda self: self.clock.due_in)
    @rule()
    def time_passes(self) -> None:
        self._do(lambda: self.clock.advance(self.clock.due_in[0]))

    @precondition(lambda self: self._wished_ids())
    @rule(number=numbers)
    def somebody_asks_for_another_try(self, number: int) -> None:
        wished = self._wished_ids()
        self._do(lambda: self.manager.retry(wished[number % len(wished)]))

    @precondition(lambda self: self._wished_ids())
    @rule(number=numbers, are_whole=st.booleans())
    def files_change(self, number: int, are_whole: bool) -> None:
        wished = self._wished_ids()
        self._change_files(wished[number % len(wished)], are_whole)

    def _wished_ids(self) -> list[ServableId]:
        return [id for id in _IDS if id.version in self.wished[id.name]]

    def _change_files(self, id: ServableId, are_whole: bool) -> None:
        self.files[id] = Files(self.files[id].revision + 1, are_whole)
        self._do(lambda: self.manager.files_changed(id))

    # What holds at every moment.

    def _published(self, state: ServableState) -> None:
        before = self.latest.get(state.id)
        is_reload = self.reload_replaced_versions and before is not None and before.manager_state is AVAILABLE
        if not (is_reload and state.manager_state is AVAILABLE):
            assert state.manager_state in _MAY_FOLLOW[before and before.manager_state], f"{before} then {state}"
        self.latest[state.id] = state

    def _swapped(self) -> None:
        for name in _NAMES:
            before, after = self.available[name], set(self.manager.available_versions(name))
            self.available[name] = after
            assert before & self.wished[name] <= after, f"of {name}, {before - after} served and is wished"
            if self.policy is availability_preserving and before and self.wished[name]:
                assert after, f"nothing serves {name} any more, though {self.wished[name]} is wished"

    @invariant()
    def no_handle_outlives_its_servable(self) -> None:
        assert all(handle.servable is not None and not handle.servable.is_closed for handle in self.handles)

    @invariant()
    def one_load_of_a_version_at_a_time(self) -> None:
        loading = [_loader_of(load).aspired.id for load in self.loading.held]
        assert len(loading) == len(set(loading))

    @invariant()
    def no_more_at_a_time_than_threads_and_stand_ins(self) -> None:
        for workers in (self.loading, self.unloading):
            assert workers.unfinished <= workers.threads + workers.stand_ins

    @invariant()
    def one_instance_of_a_version_at_a_time(self) -> None:
        alive = [loader.aspired.id for loader in self.loaders if loader.is_in_memory]
        assert len(alive) == len(set(alive)) or self.reload_replaced_versions

    @invariant()
    def what_is_in_memory_serves_or_is_in_use_or_is_on_its_way_out(self) -> None:
        in_use = [handle.servable for handle in self.handles] + [self._serving(id) for id in _IDS]
        idle = [loader for loader in self.loaders if loader.is_in_memory and loader.servable not in in_use]
        assert not idle or self.unloading.held

    @invariant()
    def available_is_what_was_published_so(self) -> None:
        published = {id for id, state in self.latest.items() if state.manager_state is AVAILABLE}
        assert published == {ServableId(n, v) for n in _NAMES for v in self.manager.available_versions(n)}

    # What holds once everything is settled, and after leaving.

    def teardown(self) -> None:
        try:
            if not self.leaves_in_the_middle:
                self._check_settled()
                self._mend()
                self._check_settled()
            self._run(self._leave())
            assert {state.manager_state for state in self.latest.values()} <= {END}
            assert all(loader.servable is None or loader.unloads == 1 for loader in self.loaders)
            assert self.clock.due_in == []
            assert (self.loading.stand_ins, self.unloading.stand_ins) == (0, 0)
        finally:
            self.loop.close()

    def _mend(self) -> None:
        for id in _IDS:
            if not self.files[id].are_whole:
                self._change_files(id, are_whole=True)

    def _check_settled(self) -> None:
        self._run(self._settle())
        for name in _NAMES:
            self._check_wish(name)

    def _check_wish(self, name: str) -> None:
        available = set(self.manager.available_versions(name))
        for version in self.wished[name]:
            self._check_wished(ServableId(name, version))
        kept = available - self.wished[name]  # the last good one, while all that is wished fails
        if self.policy is availability_preserving and self.wished[name] and not available & self.wished[name]:
            assert len(kept) <= 1
        else:
            assert not kept

    def _check_wished(self, id: ServableId) -> None:
        files, state = self.files[id], self.latest[id]
        if state.manager_state is END:
            assert not files.are_whole
            assert state.health is not None
            return
        assert state.manager_state is AVAILABLE
        if self.reload_replaced_versions:
            (read,) = [loader.read for loader in self.loaders if loader.servable is self._serving(id)]
            assert (read == files) == files.are_whole
            assert (state.health is None) == files.are_whole, "what serves is not what lies there, and nobody says so"

    async def _settle(self) -> None:
        while self.handles:
            self.handles.pop().close()
        while self.loading.held or self.unloading.held or self.clock.due_in:
            await self.loading.release()
            await self.unloading.release()
            self.clock.advance(1)

    async def _leave(self) -> None:
        self.wished = {name: set() for name in _NAMES}
        leaving = asyncio.ensure_future(self.manager.__aexit__(None, None, None))
        await asyncio.sleep(0)
        self.manager.set_aspired_versions("m", [AspiredVersion(ServableId("m", 1), "/m/1")])  # nobody listens any more
        await self._settle()
        await asyncio.wait_for(leaving, 1)

    # Inside the loop.

    def _do(self, action: Callable[[], None]) -> None:
        async def act() -> None:
            action()

        self._run(act())

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(coroutine)
        if self.failures:
            raise self.failures.pop()

    def _make_loader(self, aspired: AspiredVersion) -> FilesLoader:
        self.loaders.append(FilesLoader(aspired))
        return self.loaders[-1]

    def _serving(self, id: ServableId) -> Any:
        """What requests for the version reach now; None while they reach nothing."""
        try:
            with self.manager.get_servable_handle(ServableRequest(id.name, id.version)) as servable:
                return servable
        except NotFound:
            return None


class ResourcePreservingInterleavings(Interleavings):
    policy = staticmethod(resource_preserving)


class ReloadingInterleavings(Interleavings):
    reload_replaced_versions = True


class ReloadingResourcePreservingInterleavings(ReloadingInterleavings):
    policy = staticmethod(resource_preserving)


_BOUNDED = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestAvailabilityPreserving = pytest.mark.slow(Interleavings.TestCase)
TestAvailabilityPreserving.settings = _BOUNDED
TestResourcePreserving = pytest.mark.slow(ResourcePreservingInterleavings.TestCase)
TestResourcePreserving.settings = _BOUNDED
TestReloading = pytest.mark.slow(ReloadingInterleavings.TestCase)
TestReloading.settings = _BOUNDED
TestReloadingResourcePreserving = pytest.mark.slow(ReloadingResourcePreservingInterleavings.TestCase)
TestReloadingResourcePreserving.settings = _BOUNDED
