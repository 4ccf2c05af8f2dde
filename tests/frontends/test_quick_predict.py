"""Predict within one turn of the loop: nothing in its answers, its counts or its refusals tells it apart."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random

import numpy as np
import pytest

from pyserving import protos
from pyserving.codec.predict_wire import PredictDecoder
from pyserving.codec.tensor_proto import decode
from pyserving.core import Core
from pyserving.errors import DeadlineExceeded, InvalidArgument, ServingError
from pyserving.executors import loop_licence
from pyserving.frontends import prediction_service
from pyserving.frontends.prediction_service import PredictionService
from pyserving.frontends.quick_predict import QuickPredict
from pyserving.messages import CallContext
from pyserving.metrics import Metrics
from pyserving.signature import DataType, SignatureDef, TensorInfo, data_type_of
from pyserving.types import ServableId
from tests.codec.predict_requests import entry, field, mutated
from tests.codec.predict_requests import request as some_request
from tests.fake_core import FakeCore
from tests.test_server_core import Bench, config

PREDICT = "/tensorflow.serving.PredictionService/Predict"
X = TensorInfo("x:0", DataType.DT_FLOAT, (-1,))
SIGNATURES = {
    "serving_default": SignatureDef(
        {"x": X},
        {"count": TensorInfo("count:0", DataType.DT_INT64, ()), "y": TensorInfo("y:0", DataType.DT_FLOAT, None)},
    )
}


@pytest.fixture(autouse=True)
def _eager_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first body of a layout is scanned, not one in so many."""
    monkeypatch.setattr(PredictDecoder, "LARGE_BYTES", 0)


def doubled(feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    x = feeds["x:0"]
    if x.size and x[0] < 0:
        raise InvalidArgument(f"{x[0]:g} is negative")
    if x.size and x[0] > 1e6:
        raise RuntimeError("a bug")
    return {"y:0": x * 2, "count:0": np.array(x.size, np.int64)}


def request(*values: float, name: str = "m", **spec: object) -> bytes:
    message = protos.PredictRequest()
    message.model_spec.name = name
    for name, value in spec.items():
        if name == "version":
            message.model_spec.version.value = value
        elif name == "output_filter":
            message.output_filter.extend(value)
        else:
            setattr(message.model_spec, name, value)
    message.inputs["x"].dtype = DataType.DT_FLOAT
    message.inputs["x"].tensor_shape.dim.add(size=len(values))
    message.inputs["x"].float_val.extend(values)
    return message.SerializeToString()


class Server:
    """A front end, asked as a transport asks it."""

    def __init__(self, core: Core, *, is_quick: bool = True, **options: object) -> None:
        self.metrics = Metrics(clock=lambda: 0)
        self.core = core
        self.service = PredictionService(core, self.metrics, **options)  # type: ignore[arg-type]
        self.quick_answers = 0
        self._is_quick = is_quick

    async def ask(self, body: bytes, deadline: float | None = None) -> bytes:
        answer = self.ask_quickly(body, deadline) if self._is_quick else None
        return answer if answer is not None else await self.ask_slowly(body, deadline)

    def ask_quickly(self, body: bytes, deadline: float | None = None) -> bytes | None:
        try:
            answer = self.service.quick_methods()[PREDICT](body, deadline)
        except Exception:
            self.quick_answers += 1
            raise
        self.quick_answers += answer is not None
        return answer

    async def ask_slowly(self, body: bytes, deadline: float | None = None) -> bytes:
        return await self.service.methods()[PREDICT](body, CallContext(deadline))

    async def version(self, body: bytes) -> int:
        version: int = protos.PredictResponse.FromString(await self.ask(body)).model_spec.version.value
        return version

    @property
    def page(self) -> str:
        """Of metrics, without those of the process."""
        return "".join(
            line for line in self.metrics.exposition().decode().splitlines(keepends=True) if line.startswith(":")
        )


def quick_core(signatures: Mapping[str, SignatureDef] = SIGNATURES, run: object = doubled) -> FakeCore:
    core = FakeCore(signatures, run)  # type: ignore[arg-type]
    core.is_quick = True
    return core


@pytest.fixture
def core() -> FakeCore:
    return quick_core()


@pytest.fixture
def server(core: FakeCore) -> Server:
    return Server(core)


async def outcome(server: Server, body: bytes) -> object:
    try:
        return await server.ask(body)
    except ServingError as error:
        return error.code, error.message
    except (RuntimeError, KeyError) as error:  # as a bug, or a fake that does not look, would have it
        return repr(error)


async def test_the_second_request_of_a_layout_is_answered_at_once(server: Server) -> None:
    await server.ask(request(1, 2))
    answer = server.ask_quickly(request(3, 4))
    assert answer is not None
    response = protos.PredictResponse.FromString(answer)
    assert list(response.outputs["y"].float_val) == [6, 8]
    assert response.model_spec.version.value == 7


async def test_what_nobody_has_answered_yet_is_not_answered_at_once(server: Server, core: FakeCore) -> None:
    await server.ask(request(1, 2))
    assert server.ask_quickly(request(1, 2, 3)) is None
    assert server.ask_quickly(request(1, 2, name="mm")) is None
    assert server.ask_quickly(b"") is None
    core.is_quick = False
    assert server.ask_quickly(request(1, 2)) is None


@pytest.mark.parametrize("as_content", [False, True], ids=["typed", "content"])
@pytest.mark.parametrize("seed", range(4))
async def test_answers_are_the_same_byte_for_byte(seed: int, as_content: bool) -> None:
    random = Random(seed)
    quick_answers = 0
    for _ in range(150):
        body = some_request(random) if random.random() < 0.3 else usual_request(random)
        signatures = {"serving_default": echo_signature(body)}
        options = {"enable_serialization_as_tensor_content": as_content, "max_expanded_tensor_bytes": 1000}
        quick = Server(quick_core(signatures, echo), **options)
        slow = Server(FakeCore(signatures, echo), is_quick=False, **options)
        for wire in (body, body, mutated(random, body), mutated(random, body), body):
            assert await outcome(quick, wire) == await outcome(slow, wire), wire
        assert quick.page == slow.page
        quick_answers += quick.quick_answers
    assert quick_answers > 50


def usual_request(random: Random) -> bytes:
    """For the model that there is; its tensors are as odd as any."""
    entries = (field(2, entry(random)) for _ in range(random.choice([1, 1, 2])))
    return field(1, field(1, b"m")) + b"".join(entries)


def echo_signature(body: bytes) -> SignatureDef:
    """One that fits the request, if that is one; answers are the inputs, and their shapes."""
    aliases = {}
    try:
        for alias, tensor in protos.PredictRequest.FromString(body).inputs.items():
            aliases[alias] = data_type_of(decode(tensor, max_bytes=1000))
    except Exception:
        aliases = {"x": DataType.DT_FLOAT}
    inputs = {alias: TensorInfo(alias, data_type, None) for alias, data_type in aliases.items()}
    shapes = {f"{alias} shape": TensorInfo(f"{alias} shape", DataType.DT_INT64, None) for alias in aliases}
    outputs = inputs | shapes
    return SignatureDef(inputs, {alias: outputs[alias] for alias in sorted(outputs)})


def echo(feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    return {**feeds, **{f"{name} shape": np.array(array.shape, np.int64) for name, array in feeds.items()}}


async def test_everything_is_counted_as_on_the_long_way(core: FakeCore) -> None:
    quick, slow = Server(core), Server(quick_core(), is_quick=False)
    bodies = [request(1, 2), request(3, 4), request(-1, 2), request(1e7, 2), request(5, 6), request(1, name="n")]
    for body in bodies * 3:
        assert await outcome(quick, body) == await outcome(slow, body)
    assert quick.quick_answers == 14  # all but the first, and those for a model that is not there
    assert quick.page == slow.page
    assert ':tensorflow:serving:request_count{model_name="m",status="OK"} 9\n' in quick.page
    assert ':tensorflow:serving:request_count{model_name="m",status="INVALID_ARGUMENT"} 3\n' in quick.page
    assert ':tensorflow:serving:request_count{model_name="m",status="INTERNAL"} 3\n' in quick.page


async def test_what_was_known_of_another_generation_is_forgotten(server: Server, core: FakeCore) -> None:
    await server.ask(request(1, 2))
    assert server.ask_quickly(request(1, 2)) is not None
    core.generation += 1
    assert server.ask_quickly(request(1, 2)) is None
    await server.ask_slowly(request(1, 2, 3))
    assert server.ask_quickly(request(1, 2)) is None
    await server.ask_slowly(request(1, 2))
    assert server.ask_quickly(request(1, 2)) is not None


async def test_a_deadline_that_has_passed_is_left_to_the_long_way(server: Server) -> None:
    now = asyncio.get_running_loop().time()
    await server.ask(request(1, 2))
    assert server.ask_quickly(request(1, 2), now) is None
    assert server.ask_quickly(request(1, 2), now + 3600) is not None


@pytest.mark.parametrize(
    "body",
    [request(1, 2, output_filter=("y",)), request()],
    ids=["an output filter", "no elements"],
)
async def test_what_is_not_all_known_goes_the_long_way(server: Server, body: bytes) -> None:
    answers = [await server.ask(body) for _ in range(3)]
    assert server.quick_answers == 0
    assert answers[0] == answers[2]


async def test_strings_go_the_long_way() -> None:
    s = TensorInfo("s:0", DataType.DT_STRING, None)
    server = Server(quick_core({"serving_default": SignatureDef({"s": s, "x": X}, {"s": s})}, dict))
    message = protos.PredictRequest.FromString(request(1, 2))
    message.inputs["s"].dtype = DataType.DT_STRING
    message.inputs["s"].tensor_shape.SetInParent()
    message.inputs["s"].string_val.append(b"word")
    for _ in range(3):
        answer = protos.PredictResponse.FromString(await server.ask(message.SerializeToString()))
        assert list(answer.outputs["s"].string_val) == [b"word"]
    assert server.quick_answers == 0


async def test_strings_that_are_answered_are_written_as_ever() -> None:
    s = TensorInfo("s:0", DataType.DT_STRING, None)
    words = np.array([b"a\0", b""], object)
    server = Server(quick_core({"serving_default": SignatureDef({"x": X}, {"s": s})}, lambda feeds: {"s:0": words}))
    answers = [await server.ask(request(1, 2)) for _ in range(3)]
    assert server.quick_answers == 2
    assert answers[0] == answers[1] == answers[2]


async def test_outputs_may_change_their_shape_from_answer_to_answer() -> None:
    y = TensorInfo("y:0", DataType.DT_FLOAT, None)

    def ones(feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        return {"y:0": np.ones(int(feeds["x:0"][0]), np.float32)}

    server = Server(quick_core({"serving_default": SignatureDef({"x": X}, {"y": y})}, ones))
    for size in (3, 0, 3, 5, 3000, 1):
        assert await server.ask(request(size)) == await server.ask_slowly(request(size))
    assert server.quick_answers == 5


async def test_large_answers_go_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_service, "OFFLOAD_BYTES", 1000)
    y = TensorInfo("y:0", DataType.DT_FLOAT, None)

    def ones(feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        return {"y:0": np.ones(int(feeds["x:0"][0]), np.float32)}

    server = Server(quick_core({"serving_default": SignatureDef({"x": X}, {"y": y})}, ones))
    for _ in range(3):
        await server.ask(request(2000))
    assert server.quick_answers == 0
    for size in (1, 1, 2000, 1, 1):  # of another layout, where the first large one is not foreseen
        await server.ask(request(size, 0))
    assert server.quick_answers == 2


async def test_no_more_than_so_many_layouts_are_known(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QuickPredict, "MAX_KNOWN", 3)
    for size in range(1, 5):
        await server.ask(request(*range(size)))
    assert [server.ask_quickly(request(*range(size))) is not None for size in range(1, 5)] == [False] * 3 + [True]


# With models that come and go


@pytest.fixture
def _patient_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are short enough for the loop however busy this machine may be."""
    for limit in ("SHORT_MICROS", "SHORT_MICROS_IN_THREAD", "LONG_MICROS"):
        monkeypatch.setattr(loop_licence, limit, 1e9)


async def quick_server(bench: Bench, *bodies: bytes) -> Server:
    """One that answers `bodies` at once."""
    server = Server(bench.core)
    for _ in range(10):
        for body in bodies:
            await server.ask(body)
    await asyncio.sleep(0)
    server.quick_answers = 0
    for body in bodies:
        await server.ask(body)
        await asyncio.sleep(0)
    assert server.quick_answers == len(bodies)
    return server


@pytest.mark.usefixtures("_patient_loop")
async def test_a_new_version_answers_from_the_moment_it_is_available() -> None:
    async with Bench(is_bounded=True) as bench:
        bench.source.storage = {"m": [1]}
        await bench.core.reload_config(config("m"))
        server = await quick_server(bench, request(1, 2))
        bench.source.storage = {"m": [2]}
        await bench.source.scanned(["m"])
        await bench.monitor.wait_until(lambda: bench.manager.available_versions("m") == [2])
        runs = bench.executors[ServableId("m", 1)].runs
        for _ in range(20):
            assert await server.version(request(1, 2)) == 2
            await asyncio.sleep(0)
        assert bench.executors[ServableId("m", 1)].runs == runs
        assert server.quick_answers > 5


@pytest.mark.usefixtures("_patient_loop")
async def test_a_version_that_is_not_wanted_any_more_is_never_run_by_what_is_known() -> None:
    """The executor asserts that nothing runs once it is closed."""
    async with Bench(is_bounded=True) as bench:
        bench.source.storage = {"m": [1, 2]}
        await bench.core.reload_config(config("m"))
        await bench.monitor.wait_until(lambda: bench.manager.available_versions("m") == [1, 2])
        latest, first = request(1, 2), request(1, 2, version=1)
        server = await quick_server(bench, latest, first)
        bench.source.storage = {"m": [2]}
        await bench.source.scanned(["m"])
        assert server.ask_quickly(first) is None
        assert await outcome(server, first) == (5, "Servable not found for request: Specific(m, 1)")
        assert await server.version(latest) == 2
        await bench.monitor.wait_until(lambda: bench.executors[ServableId("m", 1)].is_closed)
        assert await outcome(server, first) == (5, "Servable not found for request: Specific(m, 1)")
        bench.source.storage = {"m": [1, 2]}
        await bench.source.scanned(["m"])
        await bench.monitor.wait_until(lambda: bench.manager.available_versions("m") == [1, 2])
        assert await server.version(first) == 1


@pytest.mark.usefixtures("_patient_loop")
async def test_a_label_that_moves_takes_what_is_known_with_it() -> None:
    async with Bench(is_bounded=True) as bench:
        bench.source.storage = {"m": [1, 2]}
        await bench.core.reload_config(config("m", labels={"stable": 1}))
        await bench.monitor.wait_until(lambda: bench.manager.available_versions("m") == [1, 2])
        body = request(1, 2, version_label="stable")
        server = await quick_server(bench, body)
        assert await server.version(body) == 1
        bench.core.apply_config(config("m", labels={"stable": 2}))
        assert await server.version(body) == 2
        bench.core.apply_config(config("m"))
        assert await outcome(server, body) == (3, "Unrecognized servable version label: stable")


@pytest.mark.usefixtures("_patient_loop")
async def test_a_model_that_is_left_out_of_the_list_is_not_answered_for() -> None:
    async with Bench(is_bounded=True) as bench:
        bench.source.storage = {"m": [1], "n": [1]}
        await bench.core.reload_config(config("m", "n"))
        server = await quick_server(bench, request(1, 2), request(1, 2, name="n"))
        bench.core.apply_config(config("n"))
        assert await outcome(server, request(1, 2)) == (5, "Servable not found for request: Latest(m)")
        assert await server.version(request(1, 2, name="n")) == 1


@pytest.mark.usefixtures("_patient_loop")
async def test_an_expired_deadline_has_its_sentence() -> None:
    async with Bench(is_bounded=True) as bench:
        bench.source.storage = {"m": [1]}
        await bench.core.reload_config(config("m"))
        server = await quick_server(bench, request(1, 2))
        runs = bench.executors[ServableId("m", 1)].runs
        with pytest.raises(DeadlineExceeded, match=r"^Timed out waiting for notification$"):
            await server.ask(request(1, 2), asyncio.get_running_loop().time() - 1)
        assert bench.executors[ServableId("m", 1)].runs == runs


@pytest.mark.usefixtures("_patient_loop")
async def test_defaults_go_the_long_way() -> None:
    async with Bench(is_bounded=True) as bench:
        bench.source.storage = {"m": [1]}
        await bench.core.reload_config(config("m"))
        server = Server(bench.core)
        for _ in range(20):
            answer = protos.PredictResponse.FromString(await server.ask(request(1, 2, signature_name="two")))
            assert list(answer.outputs["s"].float_val) == [11, 12]
        assert server.quick_answers == 0


@pytest.mark.usefixtures("_patient_loop")
async def test_a_version_that_comes_while_a_request_runs_is_learnt_as_it_is_then() -> None:
    async with Bench(is_bounded=True) as bench:
        bench.source.storage = {"m": [1]}
        await bench.core.reload_config(config("m"))
        server = Server(bench.core)
        executor = bench.executors[ServableId("m", 1)]
        executor.gate.clear()
        running = asyncio.create_task(server.version(request(1, 2)))
        await asyncio.sleep(0)
        bench.source.storage = {"m": [2]}
        await bench.source.scanned(["m"])
        await bench.monitor.wait_until(lambda: 2 in bench.manager.available_versions("m"))
        executor.gate.set()
        assert await running == 1
        for _ in range(20):
            assert await server.version(request(1, 2)) == 2
            await asyncio.sleep(0)
        assert server.quick_answers > 5


class Observing:
    """Hears of every answer while it is switched on."""

    def __init__(self) -> None:
        self.is_on = False
        self.heard: list[bytes] = []

    def observes(self, model_name: str) -> bool:
        return self.is_on

    def picks(self, model_name: str) -> bool:
        return self.is_on

    def answered(self, api: str, servable_id: ServableId, signature_name: str, request: bytes, answer: bytes) -> None:
        self.heard.append(bytes(request))


async def test_nothing_is_answered_past_an_observer_that_comes_with_a_config(core: FakeCore) -> None:
    observer = Observing()
    server = Server(core, observer=observer)
    for _ in range(3):
        await server.ask(request(1, 2))
    assert (server.quick_answers, observer.heard) == (2, [])
    observer.is_on = True
    core.generation += 1
    for _ in range(3):
        await server.ask(request(1, 2))
    assert (server.quick_answers, observer.heard) == (2, 3 * [request(1, 2)])
