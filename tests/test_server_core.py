"""Resolving specs, labels, and what becomes of a new list of models."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any

import numpy as np
import pytest

from pyserving import protos
from pyserving.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ServingError,
    Unavailable,
    Unknown,
)
from pyserving.lifecycle.manager import AspiredVersionsManager
from pyserving.lifecycle.monitor import ServableStateMonitor
from pyserving.lifecycle.retries import LoadRetries
from pyserving.loop_time import LoopTime
from pyserving.outcome import Fate
from pyserving.servable import Servable
from pyserving.server_core import ServerCore
from pyserving.session import DirectSession
from pyserving.sources.version_policy import MonitoredServable
from pyserving.types import AspiredVersion, ManagerState, ModelSpec, ServableId
from pyserving.workers import Workers
from tests.fake_executor import FakeExecutor

X = np.array([1.0, 2.0], np.float32)
ONE_RETRY_FAR_AWAY = LoadRetries(1, 10**12)


class FakeSource:
    """Aspires the versions that `storage` has for a configured model."""

    def __init__(self, aspire: Callable[[str, Sequence[AspiredVersion]], None]) -> None:
        self._aspire = aspire
        self.storage: dict[str, list[int]] = {}
        self.problems: dict[str, str] = {}
        self.settling: dict[str, dict[int, str]] = {}
        self.servables: dict[str, MonitoredServable] = {}

    def update_config(self, servables: Sequence[MonitoredServable]) -> None:
        for gone in self.servables.keys() - {servable.name for servable in servables}:
            self._aspire(gone, [])
        self.servables = {servable.name: servable for servable in servables}

    async def scanned(self, names: Collection[str]) -> None:
        await asyncio.sleep(0)
        for name in [name for name in self.servables if name in names]:
            versions = self.storage.get(name, [])
            if versions:
                self.problems.pop(name, None)
                self._aspire(name, [AspiredVersion(ServableId(name, v), f"/{name}/{v}") for v in versions])
            else:
                self.problems[name] = f"Could not find base path /{name} for servable {name}"


class Bench:
    """A core over a real manager, real workers and fake models."""

    def __init__(self, *, retries: LoadRetries = ONE_RETRY_FAR_AWAY, is_bounded: bool = False, **options: Any) -> None:
        """`is_bounded`: whether runs are for the event loop, if they are short."""
        self._retries = retries
        self._options = options
        self._is_bounded = is_bounded
        self._loop_time = LoopTime()
        self.monitor = ServableStateMonitor()
        self.broken: dict[ServableId, ServingError] = {}
        self.gates: dict[ServableId, threading.Event] = {}
        """Loads of these wait for them."""
        self.executors: dict[ServableId, FakeExecutor] = {}

    async def __aenter__(self) -> Bench:
        self._workers = [await Workers(name, 2).__aenter__() for name in ("load", "unload", "run")]
        loading, unloading, self._running = self._workers
        self.manager = AspiredVersionsManager(
            self._loader, loading, unloading, self.monitor.publish, retries=self._retries
        )
        await self.manager.__aenter__()
        self.source = FakeSource(self.manager.set_aspired_versions)
        self.core = ServerCore(self.manager, self.monitor, self.source, **self._options)
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self.manager.__aexit__(None, None, None)
        for workers in self._workers:
            await workers.__aexit__(None, None, None)

    def _loader(self, aspired: AspiredVersion) -> Any:
        bench = self

        class Loader:
            def load(self) -> Servable:
                if aspired.id in bench.gates:
                    bench.gates[aspired.id].wait()
                if aspired.id in bench.broken:
                    raise bench.broken[aspired.id]
                executor = bench.executors[aspired.id] = FakeExecutor()
                executor.is_bounded = bench._is_bounded
                session = DirectSession(executor, bench._running, loop_time=bench._loop_time)
                return Servable(aspired.id, executor, session)

            def cancel(self) -> None:
                pass

            def unload(self) -> None:
                bench.executors[aspired.id].close()

        return Loader()

    async def predict(self, **spec: Any) -> int:
        """The version that answers."""
        prediction = await self.core.predict(ModelSpec(**{"name": "m", **spec}), {"x": X})
        return prediction.servable_id.version


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with Bench() as made:
        yield made


def config(*names: str, labels: dict[str, int] | None = None) -> protos.ModelServerConfig:
    made = protos.ModelServerConfig()
    made.model_config_list.SetInParent()
    for name in names:
        model = made.model_config_list.config.add(name=name, base_path=f"/{name}", model_platform="tensorflow")
        for label, version in (labels or {}).items():
            model.version_labels[label] = version
    return made


async def test_it_serves_the_latest_a_version_and_a_label(bench: Bench) -> None:
    bench.source.storage = {"m": [1, 2]}
    await bench.core.reload_config(config("m", labels={"stable": 1}))
    await bench.monitor.wait_until(lambda: bench.manager.available_versions("m") == [1, 2])
    assert await bench.predict() == 2
    assert await bench.predict(version=1) == 1
    assert await bench.predict(version_label="stable") == 1


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"name": ""}, InvalidArgument("ModelSpec has no name specified.")),
        ({"name": "n"}, NotFound("Servable not found for request: Latest(n)")),
        ({"version": 9}, NotFound("Servable not found for request: Specific(m, 9)")),
        ({"version": 0}, NotFound("Servable not found for request: Specific(m, 0)")),
        ({"version_label": "canary"}, InvalidArgument("Unrecognized servable version label: canary")),
        ({"name": "n", "version_label": "x"}, InvalidArgument("Unrecognized servable version label: x")),
        ({"version_label": ""}, InvalidArgument("Unrecognized servable version label: ")),
    ],
)
async def test_what_cannot_be_resolved(bench: Bench, spec: dict[str, Any], error: ServingError) -> None:
    bench.source.storage = {"m": [1]}
    await bench.core.reload_config(config("m"))
    with pytest.raises(type(error)) as raised:
        await bench.predict(**spec)
    assert raised.value.message == error.message


async def test_labels_are_unavailable_before_any_config(bench: Bench) -> None:
    await bench.core.reload_config(protos.ModelServerConfig())
    with pytest.raises(Unavailable) as raised:
        await bench.predict(version_label="stable")
    assert raised.value.message == "Model labels does not init yet.stable"


async def test_a_reload_waits_for_new_models_and_names_what_failed(bench: Bench) -> None:
    bench.source.storage = {"m": [1], "bad": [3]}
    bench.broken[ServableId("bad", 3)] = NotFound("no graph")
    with pytest.raises(Unknown) as raised:
        await bench.core.reload_config(config("m", "bad", "missing"))
    assert raised.value.message == (
        "2 model(s) did not become available: {{{name: bad version: 3} due to error: NOT_FOUND: no graph}, "
        "{{name: missing} due to error: NOT_FOUND: Could not find base path /missing for servable missing}, } "
        "Models: m available, bad failed, missing empty"
    )
    assert await bench.predict() == 1


async def test_a_reload_ends_however_many_versions_have_failed_for_good() -> None:
    async with Bench(retries=LoadRetries(0)) as bench:
        bench.source.storage = {"m": list(range(1, 16))}
        bench.broken = {ServableId("m", number): NotFound("no graph") for number in range(1, 16)}
        deadline = asyncio.get_running_loop().time() + 60
        for _ in range(2):
            with pytest.raises(Unknown, match="name: m version: 15} due to error: NOT_FOUND: no graph"):
                await bench.core.reload_config(config("m"), deadline=deadline)
        assert len(bench.core.model_status(ModelSpec("m"))) == 15


async def test_the_same_list_sent_again_tries_again(bench: Bench) -> None:
    bench.source.storage = {"bad": [3]}
    bench.broken[ServableId("bad", 3)] = NotFound("no graph")
    for _ in range(2):
        with pytest.raises(Unknown):
            await bench.core.reload_config(config("bad"))
    del bench.broken[ServableId("bad", 3)]
    await bench.core.reload_config(config("bad"))
    assert await bench.predict(name="bad") == 3


async def test_sent_again_it_waits_for_the_attempt_that_runs() -> None:
    async with Bench(retries=LoadRetries(1, -1)) as bench:
        bad, gate = ServableId("bad", 3), threading.Event()
        bench.source.storage = {"bad": [3]}
        bench.broken[bad] = NotFound("no graph")
        bench.monitor.subscribe(lambda state: bench.gates.update({bad: gate} if state.health else {}))
        with pytest.raises(Unknown):
            await bench.core.reload_config(config("bad"))
        again = asyncio.create_task(bench.core.reload_config(config("bad")))
        in_time = asyncio.get_running_loop().time() + 30
        assert await bench.monitor.wait_until(lambda: bench.monitor.versions("bad")[0].health is None, in_time)
        assert not again.done()
        del bench.broken[bad]
        gate.set()
        await again
        assert await bench.predict(name="bad") == 3


async def test_sent_again_it_waits_for_the_version_that_is_to_mend_it(bench: Bench) -> None:
    bench.source.storage = {"m": [1]}
    bench.broken[ServableId("m", 1)] = NotFound("no graph")
    with pytest.raises(Unknown):
        await bench.core.reload_config(config("m"))
    bench.source.settling = {"m": {2: "its files are still changing"}}
    again = asyncio.create_task(bench.core.reload_config(config("m")))
    for manager_state in (ManagerState.START, ManagerState.LOADING):
        await bench.monitor.wait_until(lambda s=manager_state: bench.monitor.versions("m")[0].manager_state is s)
    await bench.monitor.wait_until(lambda: bench.monitor.versions("m")[0].health is not None)
    assert not again.done()
    bench.source.settling = {}
    bench.source.storage = {"m": [2]}
    await bench.source.scanned(["m"])
    await again
    assert await bench.predict() == 2


async def test_a_refused_config_changes_nothing(bench: Bench) -> None:
    bench.source.storage = {"m": [1]}
    await bench.core.reload_config(config("m"))
    with pytest.raises(InvalidArgument, match="Illegal to list model a multiple times"):
        await bench.core.reload_config(config("a", "a"))
    assert await bench.predict() == 1
    assert bench.core.model_names == ["m"]


async def test_an_empty_list_unloads_everything(bench: Bench) -> None:
    bench.source.storage = {"m": [1]}
    await bench.core.reload_config(config("m"))
    await bench.core.reload_config(config())
    await bench.monitor.wait_until(lambda: bench.monitor.versions("m")[0].manager_state is ManagerState.END)
    with pytest.raises(NotFound):
        await bench.predict()


async def test_a_reload_keeps_to_its_deadline(bench: Bench) -> None:
    bench.source.storage = {"m": [1]}
    bench.source.settling = {"slow": {1: "variables are missing"}}
    now = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineExceeded) as raised:
        await bench.core.reload_config(config("m", "slow"), deadline=now + 0.05)
    assert raised.value.message == (
        "The deadline passed before every model was available. Models: m available, slow pending"
    )


async def test_a_reload_that_is_out_of_time_says_which_label_it_waited_for(bench: Bench) -> None:
    bench.source.storage = {"m": [1]}
    await bench.core.reload_config(config("m"))
    bench.source.settling = {"m": {2: "its files are still changing"}}
    deadline = asyncio.get_running_loop().time() + 0.05
    with pytest.raises(DeadlineExceeded) as raised:
        await bench.core.reload_config(config("m", labels={"stable": 2}), deadline=deadline)
    assert raised.value.message == (
        "The deadline passed before version 2 of model m, which is to have the label stable, was available. "
        "Models: m available"
    )


async def test_a_reload_whose_time_is_over_is_the_wish_all_the_same(bench: Bench) -> None:
    bench.source.storage = {"m": [1]}
    await bench.core.reload_config(config("m"))
    with pytest.raises(DeadlineExceeded) as raised:
        await bench.core.reload_config(config("m"), deadline=0.0)
    assert raised.value.message == ("The deadline passed before every base path was looked at. Models: m available")
    assert bench.core.model_names == ["m"]
    assert await bench.predict() == 1


async def test_of_many_models_a_failing_message_counts_those_that_serve(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"model-number-{number}-éé" for number in range(60)]
    bench.source.storage = {name: [1] for name in names}
    await bench.core.reload_config(config(*names))
    bench.source.settling = {"slow": {1: "variables are missing"}}
    deadline = asyncio.get_running_loop().time() + 0.05
    with pytest.raises(DeadlineExceeded) as raised:
        await bench.core.reload_config(config(*names, "slow"), deadline=deadline)
    assert raised.value.message.endswith("Models: 60 available, slow pending")
    assert caplog.messages[-1].endswith("model-number-59-éé available, slow pending")


@pytest.mark.proves("difference: A label given together with its version")
async def test_a_label_given_with_its_version_is_applied_once_that_is_there(bench: Bench) -> None:
    bench.source.storage = {"m": [1]}
    await bench.core.reload_config(config("m", labels={"stable": 1}))
    bench.source.storage = {"m": [1, 2]}
    await bench.core.reload_config(config("m", labels={"stable": 2}))
    assert await bench.predict(version_label="stable") == 2


@pytest.mark.proves("difference: A label on a version that does not come")
async def test_a_label_on_a_version_that_does_not_come_is_refused(bench: Bench) -> None:
    bench.source.storage = {"m": [1]}
    with pytest.raises(FailedPrecondition) as raised:
        await bench.core.reload_config(config("m", labels={"stable": 9}))
    assert raised.value.message == (
        "Request to assign label to version 9 of model m, which is not currently available for inference"
    )


async def test_a_start_waits_for_what_is_being_written_no_longer_than_it_is_told(bench: Bench) -> None:
    bench.source.storage = {"m": [1]}
    bench.source.settling = {"m": {2: "its files are still changing"}, "slow": {1: "its files are still changing"}}
    bench.core.apply_config(config("m", "slow", labels={"canary": 2}))
    written_by = asyncio.get_running_loop().time() + 0.1
    settled = asyncio.create_task(bench.core.settled(written_by=written_by))
    await bench.monitor.wait_until(lambda: bench.manager.available_versions("m") == [1])
    while not settled.done():
        await bench.source.scanned([])
        bench.monitor.recheck()
    assert asyncio.get_running_loop().time() >= written_by
    assert [outcome.fate for outcome in bench.core.outcomes()] == [Fate.AVAILABLE, Fate.PENDING]


async def test_a_label_waits_for_a_version_that_is_still_being_written(bench: Bench) -> None:
    bench.source.storage = {"m": [1]}
    bench.source.settling = {"m": {2: "its files are still changing"}}
    await bench.core.reload_config(config("m"))
    reload = asyncio.create_task(bench.core.reload_config(config("m", labels={"stable": 2})))
    await asyncio.sleep(0.01)
    assert not reload.done()
    bench.source.settling = {}
    bench.source.storage = {"m": [1, 2]}
    await bench.source.scanned(["m"])
    await reload
    assert await bench.predict(version_label="stable") == 2


@pytest.mark.proves("difference: A label on a version that does not come")
async def test_a_refused_label_keeps_the_old_version_and_the_rest_of_its_config_holds(bench: Bench) -> None:
    bench.source.storage = {"m": [1], "n": [5]}
    await bench.core.reload_config(config("m", labels={"stable": 1}))
    wish = config("m", labels={"stable": 9, "canary": 1})
    wish.model_config_list.config.add(name="n", base_path="/n", model_platform="tensorflow")
    with pytest.raises(FailedPrecondition, match="Request to assign label to version 9 of model m"):
        await bench.core.reload_config(wish)
    assert await bench.predict(version_label="stable") == 1
    assert await bench.predict(version_label="canary") == 1
    assert await bench.predict(name="n") == 5
    bench.source.storage["m"] = [1, 9]
    await bench.source.scanned(["m"])
    await bench.monitor.wait_until(lambda: 9 in bench.manager.available_versions("m"))
    assert await bench.predict(version_label="stable") == 9


async def test_a_label_on_a_version_that_fails_is_refused_after_its_first_try(bench: Bench) -> None:
    bench.source.storage = {"m": [1]}
    await bench.core.reload_config(config("m"))
    bench.source.storage = {"m": [1, 2]}
    bench.broken[ServableId("m", 2)] = NotFound("no graph")
    with pytest.raises(FailedPrecondition, match="label to version 2"):
        await bench.core.reload_config(config("m", labels={"canary": 2}))


async def test_with_the_flag_a_new_label_names_a_version_that_is_not_there() -> None:
    async with Bench(allow_version_labels_for_unavailable_models=True) as bench:
        bench.source.storage = {"m": [1]}
        await bench.core.reload_config(config("m", labels={"canary": 7}))
        with pytest.raises(NotFound) as raised:
            await bench.predict(version_label="canary")
        assert raised.value.message == "Servable not found for request: Specific(m, 7)"
        with pytest.raises(FailedPrecondition, match="label to version 8"):
            await bench.core.reload_config(config("m", labels={"canary": 8}))


@pytest.mark.proves("difference: HandleReloadConfigRequest")
async def test_a_reload_answers_for_its_own_list_when_another_comes_meanwhile(bench: Bench) -> None:
    bench.source.storage = {"m": [1], "n": [1]}
    bench.source.settling = {"slow": {1: "variables are missing"}}
    first = asyncio.create_task(bench.core.reload_config(config("m", "slow")))
    await asyncio.sleep(0.01)
    await bench.core.reload_config(config("m", "n"))
    with pytest.raises(Unknown) as raised:
        await first
    assert raised.value.message == (
        "1 model(s) did not become available: {{{name: slow} due to error: ABORTED: A newer config does not list the "
        "model}, } Models: m available, slow failed"
    )


async def test_status_is_newest_first_and_per_version(bench: Bench) -> None:
    bench.source.storage = {"m": [1, 2]}
    await bench.core.reload_config(config("m"))
    await bench.monitor.wait_until(lambda: bench.manager.available_versions("m") == [1, 2])
    states = bench.core.model_status(ModelSpec("m", version_label="whatever"))
    assert [state.id.version for state in states] == [2, 1]
    assert [state.id.version for state in bench.core.model_status(ModelSpec("m", 1))] == [1]
    with pytest.raises(NotFound, match="Could not find version 3 of model m"):
        bench.core.model_status(ModelSpec("m", 3))
    with pytest.raises(NotFound, match="Could not find any versions of model n"):
        bench.core.model_status(ModelSpec("n"))


async def test_a_run_by_tensor_names_uses_the_version_it_is_told(bench: Bench) -> None:
    bench.source.storage = {"m": [1, 2]}
    await bench.core.reload_config(config("m"))
    await bench.monitor.wait_until(lambda: bench.manager.available_versions("m") == [1, 2])
    servable_id, signatures = bench.core.signatures(ModelSpec("m", 1))
    assert servable_id == ServableId("m", 1)
    run = await bench.core.run(servable_id, {"x:0": X}, [signatures["serving_default"].outputs["y"].name])
    assert run.outputs["double:0"].tolist() == [2.0, 4.0]


async def test_an_answer_on_time_keeps_the_version_until_its_run_is_over(bench: Bench) -> None:
    bench.source.storage = {"m": [1]}
    await bench.core.reload_config(config("m"))
    executor = bench.executors[ServableId("m", 1)]
    executor.gate.clear()
    now = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineExceeded, match="Timed out waiting for notification"):
        await bench.core.predict(ModelSpec("m"), {"x": X}, deadline=now + 0.02)
    bench.core.apply_config(config())
    assert bench.monitor.versions("m")[0].manager_state is ManagerState.UNLOADING
    assert not executor.is_closed
    executor.gate.set()
    await bench.monitor.wait_until(lambda: bench.monitor.versions("m")[0].manager_state is ManagerState.END)
    assert executor.is_closed
    assert executor.runs == 1


async def test_a_failing_message_lists_every_model_however_long_the_reasons_are(bench: Bench) -> None:
    names = [f"m{number:02}" for number in range(20)]
    with pytest.raises(Unknown) as raised:
        await bench.core.reload_config(config(*names))
    assert raised.value.message.startswith("20 model(s) did not become available: {{{name: m00}}, ")
    assert raised.value.message.endswith("m19 empty")
    assert len(raised.value.message) < 1024


async def test_sent_again_it_tries_a_failed_version_of_a_model_that_serves(bench: Bench) -> None:
    bench.source.storage = {"m": [1]}
    await bench.core.reload_config(config("m"))
    bench.broken[ServableId("m", 2)] = NotFound("no graph")
    bench.source.storage = {"m": [2]}
    await bench.core.reload_config(config("m"))
    await bench.monitor.wait_until(lambda: bench.monitor.versions("m")[0].health is not None)
    del bench.broken[ServableId("m", 2)]
    await bench.core.reload_config(config("m"))
    await bench.monitor.wait_until(lambda: bench.manager.available_versions("m") == [2])
    assert await bench.predict() == 2


async def test_another_generation_begins_whenever_a_spec_may_mean_another_version(bench: Bench) -> None:
    seen = [bench.core.generation]

    def has_changed() -> bool:
        seen.append(bench.core.generation)
        return seen[-1] != seen[-2]

    bench.source.storage = {"m": [1]}
    await bench.core.reload_config(config("m", labels={"stable": 1}))
    assert has_changed()
    await bench.predict()
    assert not has_changed()
    bench.source.storage = {"m": [1, 2]}
    await bench.source.scanned(["m"])
    await bench.monitor.wait_until(lambda: bench.manager.available_versions("m") == [1, 2])
    assert has_changed()
    bench.core.apply_config(config("m", labels={"stable": 2}))
    assert has_changed()
    bench.source.storage = {"m": [2]}
    await bench.source.scanned(["m"])
    assert bench.manager.available_versions("m") == [2]
    assert has_changed()
    bench.core.apply_config(config())
    assert has_changed()


async def test_a_generation_has_begun_when_a_state_is_told(bench: Bench) -> None:
    generations: dict[tuple[int, ManagerState], int] = {}
    bench.monitor.subscribe(
        lambda state: generations.setdefault((state.id.version, state.manager_state), bench.core.generation)
    )
    bench.source.storage = {"m": [1]}
    await bench.core.reload_config(config("m"))
    bench.source.storage = {"m": [2]}
    await bench.source.scanned(["m"])
    await bench.monitor.wait_until(lambda: (1, ManagerState.END) in generations)
    assert generations[1, ManagerState.LOADING] < generations[1, ManagerState.AVAILABLE]
    assert generations[1, ManagerState.AVAILABLE] < generations[2, ManagerState.AVAILABLE]
    assert generations[1, ManagerState.UNLOADING] < generations[1, ManagerState.END]


async def test_a_refused_config_begins_no_generation(bench: Bench) -> None:
    bench.source.storage = {"m": [1]}
    await bench.core.reload_config(config("m"))
    before = bench.core.generation
    with pytest.raises(InvalidArgument):
        bench.core.apply_config(config("a", "a"))
    assert bench.core.generation == before


async def test_what_is_prepared_answers_as_predict_does() -> None:
    async with Bench(is_bounded=True) as bench:
        bench.source.storage = {"m": [1]}
        await bench.core.reload_config(config("m"))
        prepared = bench.core.prepare(ModelSpec("m"), {"x": X}, ())
        assert prepared is not None
        assert prepared.run([X]) is None  # it is not known to be short yet
        for _ in range(20):
            prediction = await bench.core.predict(ModelSpec("m"), {"x": X})
        run = prepared.run([X])
        assert run is not None
        outputs = dict(zip(prepared.output_aliases, run[0], strict=True))
        assert {alias: array.tolist() for alias, array in outputs.items()} == {
            alias: array.tolist() for alias, array in prediction.outputs.items()
        }
        assert (prepared.servable_id, prepared.signature_name) == (prediction.servable_id, prediction.signature_name)
        assert prepared.input_aliases == ("x",)


async def test_what_is_refused_is_refused_when_it_is_prepared(bench: Bench) -> None:
    bench.source.storage = {"m": [1]}
    await bench.core.reload_config(config("m"))
    with pytest.raises(NotFound, match=r"Latest\(n\)"):
        bench.core.prepare(ModelSpec("n"), {"x": X}, ())
    with pytest.raises(FailedPrecondition, match="nothing"):
        bench.core.prepare(ModelSpec("m", signature_name="nothing"), {"x": X}, ())
    with pytest.raises(InvalidArgument, match="not found in request"):
        bench.core.prepare(ModelSpec("m"), {"y": X}, ())
    with pytest.raises(InvalidArgument, match="to be float but int64 is provided"):
        bench.core.prepare(ModelSpec("m"), {"x": np.array([1])}, ())


@pytest.mark.parametrize(("signature_name", "output_filter"), [("", ("y",)), ("two", ())])
async def test_what_is_not_all_in_the_request_is_not_prepared(
    bench: Bench, signature_name: str, output_filter: tuple[str, ...]
) -> None:
    bench.source.storage = {"m": [1]}
    await bench.core.reload_config(config("m"))
    assert bench.core.prepare(ModelSpec("m", signature_name=signature_name), {"x": X}, output_filter) is None


async def test_whoever_follows_the_config_hears_of_each_list_that_is_accepted(bench: Bench) -> None:
    heard: list[list[str]] = []
    bench.core.config_applied.append(lambda models: heard.append([*models]))
    bench.core.apply_config(config("m", "n"))
    with pytest.raises(InvalidArgument):
        bench.core.apply_config(config("n", "n"))
    bench.core.apply_config(config("n"))
    assert heard == [["m", "n"], ["n"]]
