"""Models in TensorFlow sessions: what runs, what is refused, and in which words."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from pyserving.errors import Cancelled, Code, DeadlineExceeded, Internal, InvalidArgument, ServingError
from pyserving.executors import c_session, python_session, tf_session
from pyserving.executors.executor import Executor, Plan, Way, open_executor
from pyserving.session import DirectSession, ExecutionPlan
from pyserving.signature import DataType, data_type_of
from pyserving.workers import Workers
from tests import models
from tests.clock import Clock

pytestmark = pytest.mark.usefixtures("session_kind")


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def open_model(exported, model) -> Executor:
    return open_executor("tensorflow", str(exported(model)))


def signature_plan(executor: Executor, name: str = "serving_default") -> Plan:
    signature = executor.signature_defs[name]
    return executor.plan(
        tuple(info.name for info in signature.inputs.values()), tuple(info.name for info in signature.outputs.values())
    )


def run(executor: Executor, name: str, *arrays: np.ndarray, way: int = 0) -> list[np.ndarray]:
    return list(signature_plan(executor, name).ways[way].run(*arrays))


@pytest.mark.parametrize("model", [models.half_plus_two, models.half_plus_two_text, models.half_plus_two_tf2])
def test_every_way_gives_the_answer(exported, model):
    plan = signature_plan(open_model(exported, model))
    assert [way.name for way in plan.ways] == ["pool", "caller"]
    assert plan.feed_types == (DataType.DT_FLOAT,)
    for way in plan.ways:
        (y,) = way.run(floats(1, 2, 5))
        assert y.tolist() == [2.5, 3.0, 4.5]


@pytest.mark.proves("difference: XLA")
def test_a_graph_that_asks_for_xla_is_compiled_without_a_flag(exported):
    saved = (exported(models.compiled_by_xla) / "saved_model.pb").read_bytes()
    assert b"_XlaMustCompile" in saved
    assert run(open_model(exported, models.compiled_by_xla), "serving_default", floats(2, 3))[0].tolist() == [5, 10]


@pytest.mark.parametrize("shape", [(2,), (), (1, 2), (0,)])
@pytest.mark.parametrize("model", [models.half_plus_two, models.half_plus_two_tf2])
def test_shape_of_the_signature_is_not_checked(exported, model, shape):
    (y,) = run(open_model(exported, model), "serving_default", np.ones(shape, np.float32))
    assert y.shape == shape
    assert (y == 2.5).all()


def test_examples_are_parsed(exported):
    example = tf.train.Example(features=tf.train.Features(feature={"x": feature(2.0), "x2": feature(4.0)}))
    serialized = np.array([example.SerializeToString()], object)
    executor = open_model(exported, models.half_plus_two)
    assert run(executor, "classify_x_to_y", serialized)[0].tolist() == [[3.0]]
    assert run(executor, "regress_x_to_y2", serialized)[0].tolist() == [[4.0]]
    assert run(executor, "regress_x2_to_y3", floats(4))[0].tolist() == [5.0]


def feature(value: float) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))


def test_init_op_has_read_the_asset(exported):
    (contents,) = open_model(exported, models.half_plus_two).plan((), ("asset_contents:0",)).ways[0].run()
    assert contents.item() == models.ASSET_CONTENTS


def test_requests_change_a_counter(exported):
    executor = open_model(exported, models.counter)
    calls = [("get_counter",), ("incr_counter",), ("incr_counter",), ("get_counter",)]
    assert [run(executor, *call, way=1)[0].item() for call in calls] == [0, 1, 2, 2]
    assert run(executor, "incr_counter_by", np.array(2.5, np.float32))[0].item() == 4.5
    assert run(executor, "reset_counter")[0].item() == 0


def test_each_opened_model_has_its_own_state(exported):
    one, other = open_model(exported, models.counter), open_model(exported, models.counter)
    run(one, "incr_counter")
    assert run(other, "get_counter")[0].item() == 0


def test_answer_of_a_reference_variable_stays_as_it_was():
    graph = tf.Graph()
    with graph.as_default():
        variable = tf.compat.v1.Variable(floats(1, 1), name="v", use_resource=False)
        variable.assign_add(floats(1, 1), name="add")
    session = tf.compat.v1.Session(graph=graph)
    session.run(variable.initializer)
    executor = tf_session.TfSessionExecutor(python_session.PythonSession(session, tf.compat.v1.MetaGraphDef()))
    get, add = executor.plan((), ("v:0",)), executor.plan((), ("add:0",))
    (before,) = get.ways[0].run()
    add.ways[0].run()
    assert before.tolist() == [1, 1]


@pytest.mark.parametrize("way", [0, 1])
@pytest.mark.parametrize(
    "content", [b"a\0b\0", [b"", "zwölf".encode()], np.empty((0, 2), object)], ids=["scalar", "list", "empty"]
)
def test_strings_are_bytes_to_the_last_zero(exported, content, way):
    content = np.array(content, object)
    executor = open_model(exported, models.string_echo)
    outputs = executor.signature_defs["serving_default"].outputs
    plan = executor.plan(("content:0",), (outputs["echo"].name, outputs["length"].name))
    echo, length = plan.ways[way].run(content)
    assert (echo.dtype, echo.shape, echo.tolist()) == (np.dtype(object), content.shape, content.tolist())
    assert length.dtype == np.int32


@pytest.mark.parametrize("shape", [(3,), (), (2, 2), (0,)], ids=str)
@pytest.mark.parametrize("data_type", models.identity_types(), ids=lambda t: t.type_name)
def test_every_dtype_goes_in_and_comes_out(identity_model, data_type, shape):
    if data_type is DataType.DT_STRING:
        x = np.full(shape, b"x", object)
    elif data_type.numpy.names:
        x = np.ones(shape, data_type.numpy[0]).view(data_type.numpy)
    else:
        x = np.ones(shape).astype(data_type.numpy)
    plan = signature_plan(identity_model, data_type.type_name)
    assert plan.feed_types == (data_type,)
    for way in plan.ways:
        (y,) = way.run(x)
        assert type(y) is np.ndarray
        assert data_type_of(y) is data_type
        assert y.shape == shape
        assert y.tolist() == x.tolist()


@pytest.fixture(scope="module", params=[c_session, python_session], ids=["c", "python"])
def identity_model(exported, request) -> Executor:
    return tf_session.TfSessionExecutor(request.param.load(str(exported(models.identity)), ["serve"], b""))


def test_arrays_need_not_be_contiguous_or_writable(exported):
    x = np.arange(10, dtype=np.float32)[::3]
    x.flags.writeable = False
    (y,) = run(open_model(exported, models.half_plus_two), "serving_default", x)
    assert y.tolist() == [2.0, 3.5, 5.0, 6.5]


def test_two_outputs_may_be_one_tensor(exported):
    plan = open_model(exported, models.half_plus_two).plan(("x:0",), ("y:0", "y:0"))
    first, second = plan.ways[0].run(floats(2))
    assert first.tolist() == second.tolist() == [3.0]


@pytest.mark.parametrize(
    ("feeds", "fetches", "code", "sentence"),
    [
        (("x:0", "x:0"), ("y:0",), Code.INVALID_ARGUMENT, 'Endpoint "x:0" fed more than once.'),
        (("x:0",), (), Code.INVALID_ARGUMENT, "Must specify at least one target to fetch or execute."),
        (
            ("no:0",),
            ("y:0",),
            Code.INVALID_ARGUMENT,
            "Tensor no:0, specified in either feed_devices or fetch_devices was not found in the Graph",
        ),
        (
            ("x:0",),
            ("y:1",),
            Code.OUT_OF_RANGE,
            "Node 'y' (type: 'AddV2', num of outputs: 1) does not have output 1",
        ),
        (("x:0",), ("x:0",), Code.INVALID_ARGUMENT, "x:0 is both fed and fetched."),
    ],
)
def test_plan_that_cannot_be_made_is_refused_in_tensorflows_words(exported, feeds, fetches, code, sentence):
    with pytest.raises(ServingError) as raised:
        open_model(exported, models.half_plus_two).plan(feeds, fetches)
    assert (raised.value.code, str(raised.value)) == (code, sentence)


def test_init_op_of_a_signature_has_no_output_to_plan(exported):
    executor = open_model(exported, models.half_plus_two_tf2)
    with pytest.raises(ServingError, match="does not have output 0"):
        signature_plan(executor, "__saved_model_init_op")
    assert run(executor, "serving_default", floats(2))[0].tolist() == [3.0]


def test_feed_may_be_named_without_its_output_number(exported):
    plan = open_model(exported, models.half_plus_two).plan(("x",), ("y",))
    assert plan.feed_types == (DataType.DT_FLOAT,)
    assert plan.ways[0].run(floats(2))[0].tolist() == [3.0]


MISSING_FEATURE = (
    "Name: <unknown>, Feature: x (data type: float) is required but could not be found.\n"
    "\t [[{{node ParseExample/ParseExampleV2}}]]"
)


@pytest.mark.parametrize("way", [0, 1])
def test_error_of_a_run_keeps_tensorflows_code_and_words(exported, way):
    with pytest.raises(InvalidArgument) as raised:
        run(open_model(exported, models.half_plus_two), "classify_x_to_y", np.array([b""], object), way=way)
    assert str(raised.value) == MISSING_FEATURE


def test_what_python_refuses_is_an_invalid_argument(exported):
    with pytest.raises(ServingError, match="Unsupported object type int"):
        run(open_model(exported, models.string_echo), "serving_default", np.array([1], object))


def test_a_counter_in_a_reference_variable_answers_with_an_array_of_its_own(exported):
    executor = open_model(exported, models.counter)
    (before,) = run(executor, "get_counter")
    run(executor, "incr_counter")
    assert before.item() == 0


def test_large_graph_is_planned_in_one_way(exported, monkeypatch):
    monkeypatch.setattr(tf_session, "MOST_BYTES_TO_PLAN_TWICE", 100)
    plan = signature_plan(open_model(exported, models.half_plus_two))
    assert [way.name for way in plan.ways] == ["pool"]


def test_gpu_options_are_accepted_on_any_machine(exported):
    config = config_pb2.ConfigProto(
        gpu_options=config_pb2.GPUOptions(per_process_gpu_memory_fraction=0.5, allow_growth=True),
        intra_op_parallelism_threads=1,
    )
    executor = open_executor(
        "tensorflow", str(exported(models.half_plus_two)), session_config=config.SerializeToString()
    )
    assert run(executor, "serving_default", floats(2))[0].tolist() == [3.0]


def test_many_threads_may_load_and_run_at_once(exported):
    path = str(exported(models.half_plus_two))
    start = threading.Barrier(4)

    def load_and_run(x: float) -> float:
        start.wait()
        (y,) = run(open_executor("tensorflow", path), "serving_default", floats(x))
        return float(y[0])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(load_and_run, [0, 2, 4, 6])) == [2, 3, 4, 5]


def test_plans_of_a_closed_model_say_so(exported):
    executor = open_model(exported, models.half_plus_two)
    plan = signature_plan(executor)
    executor.close()
    for way in plan.ways:
        with pytest.raises(Cancelled, match=r"^Session has been closed\.$"):
            way.run(floats(2))


def test_closed_model_waits_for_no_collection(exported):
    gc.collect()
    gc.disable()
    try:
        executor = open_model(exported, models.half_plus_two)
        direct_session = DirectSession(executor, Workers("run", 1))
        with pytest.raises(InvalidArgument, match="fed more than once"):
            direct_session.plan(("x:0", "x:0"), ("y:0",))
        kept = [weakref.ref(thing) for thing in (executor, executor._session)]
        executor.close()
        del executor, direct_session
        assert [reference() for reference in kept] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("way", [0, 1])
def test_a_loop_goes_round_as_often_as_its_input_says(exported, way):
    (counted,) = run(open_model(exported, models.slow), "serving_default", np.array(1000), way=way)
    assert counted.item() == 1000


async def test_deadline_is_kept_while_a_loop_of_tensorflow_goes_on(exported):
    plan = signature_plan(open_model(exported, models.slow))
    loop, started = asyncio.get_running_loop(), asyncio.Event()
    clock = Clock(loop)

    def run(*arrays: np.ndarray) -> Sequence[np.ndarray]:
        loop.call_soon_threadsafe(started.set)
        return plan.ways[0].run(*arrays)

    watched = ExecutionPlan(replace(plan, ways=(Way("watched", run),)))
    async with Workers("run", 1) as workers:
        session = DirectSession(executor=None, workers=workers)
        running = asyncio.create_task(session.run(watched, [np.array(200_000)], None, loop.time() + 3600))
        await started.wait()
        clock.advance(3600)
        with pytest.raises(DeadlineExceeded, match=r"^Timed out waiting for notification$"):
            await running
        assert workers.unfinished == 1


def test_what_nobody_foresaw_fails_the_load_alone(exported, caplog):
    with pytest.raises(Internal, match=r"^TypeError: "):
        open_executor("tensorflow", str(exported(models.half_plus_two)), tags=None)
    assert "Could not load" in caplog.text


def test_a_load_that_fails_late_gives_its_session_back(exported, monkeypatch):
    closed = []

    class Unreadable:
        meta_graph = None

        def close(self):
            closed.append(self)

    for module in (c_session, python_session):
        monkeypatch.setattr(module, "load", lambda *args, **options: Unreadable())
    with pytest.raises(Internal):
        open_model(exported, models.half_plus_two)
    assert len(closed) == 1
