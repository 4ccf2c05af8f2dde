"""TensorFlow's C API under our hands, and its bindings on a session that they did not make."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.framework import errors

from pyserving.errors import InvalidArgument, NotFound, OutOfRange
from pyserving.executors import c_session, op_packages
from tests import models

ROOT = Path(__file__).resolve().parents[2]


def load(exported, model=models.half_plus_two, session_config: bytes = b"") -> c_session.CSession:
    return c_session.load(str(exported(model)), ["serve"], session_config)


class Recorder:
    """Makes each call, and remembers its name."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def __call__(self, function, *args):
        self.called.append(function.__name__)
        return function(*args)


def test_the_c_api_can_still_be_used():
    """If this fails, TensorFlow has changed: all works, but loading a model holds up requests for much longer."""
    assert c_session.is_available()
    assert hasattr(pywrap_tf_session.TF_Session, "_pybind11_conduit_v1_")


def test_meta_graph_holds_the_signatures_and_no_graph(exported):
    session = load(exported)
    assert set(session.meta_graph.signature_def) >= {"serving_default", "classify_x_to_y"}
    assert not session.meta_graph.graph_def.node
    assert session.graph_bytes > 1000


@pytest.mark.parametrize(("tensor", "data_type"), [("x:0", 1), ("x", 1), ("tf_example:0", 7), ("a:0", 101)])
def test_data_type_is_the_tensors_own(exported, tensor, data_type):
    assert load(exported).data_type(tensor) == data_type


@pytest.mark.parametrize("tensor", ["no:0", "x:1", "init:0", ""])
def test_data_type_of_no_tensor_is_refused(exported, tensor):
    with pytest.raises(InvalidArgument, match="was not found in the Graph"):
        load(exported).data_type(tensor)


def test_an_output_that_an_op_has_not_is_refused_before_the_graph_is_prepared(exported):
    session = load(exported)
    before = session.planning_seconds
    sentence = r"^Node 'init' \(type: 'NoOp', num of outputs: 0\) does not have output 0$"
    with pytest.raises(OutOfRange, match=sentence):
        session.make_callable(config_pb2.CallableOptions(fetch=["init"]))
    assert session.planning_seconds == before


def test_tensorflow_says_the_same_of_such_an_output(exported, monkeypatch):
    session = load(exported)
    monkeypatch.setattr(c_session.CSession, "_check_has_output", lambda session, tensor: None)
    with pytest.raises(
        errors.OutOfRangeError, match=r"Node 'init' \(type: 'NoOp', num of outputs: 0\) does not have out"
    ):
        session.make_callable(config_pb2.CallableOptions(fetch=["init"]))


def test_what_takes_long_is_left_to_compute(exported):
    compute = Recorder()
    session = c_session.load(str(exported(models.half_plus_two)), ["serve"], b"", compute=compute)
    call = session.make_callable(config_pb2.CallableOptions(feed=["x:0"], fetch=["y:0"]))
    assert call(np.ones(1, np.float32))[0].tolist() == [2.5]
    session.close()
    assert compute.called == ["TF_LoadSessionFromSavedModel", "_timed", "TF_DeleteSession", "TF_DeleteGraph"]
    assert session.planning_seconds > 0


def test_a_callable_that_a_request_waits_for_is_made_at_once(exported):
    compute = Recorder()
    session = c_session.load(str(exported(models.half_plus_two)), ["serve"], b"", compute=compute)
    made: list[object] = []
    options = config_pb2.CallableOptions(feed=["x:0"], fetch=["y:0"])
    request = threading.Thread(target=lambda: made.append(session.make_callable(options)))
    request.start()
    request.join()
    assert len(made) == 1
    assert compute.called == ["TF_LoadSessionFromSavedModel"]


@pytest.mark.parametrize("config", [{"use_per_session_threads": True}, {"session_inter_op_thread_pool": [{}]}])
def test_a_session_that_starts_threads_of_its_own_is_not_opened_in_spare_time(exported, config):
    compute = Recorder()
    session_config = config_pb2.ConfigProto(**config).SerializeToString()
    c_session.load(str(exported(models.half_plus_two)), ["serve"], session_config, compute=compute).close()
    assert compute.called == ["TF_DeleteSession", "TF_DeleteGraph"]


SERVING_PRIORITIES = """
import os, sys, time
import numpy as np
from pyserving.executors.tf_session import open_saved_model
from pyserving.spare_time import SpareTime

def idle_threads():
    found = 0
    for task in os.listdir("/proc/self/task"):
        try:
            found += os.sched_getscheduler(int(task)) == os.SCHED_IDLE
        except ProcessLookupError:
            pass
    return found

SpareTime.SHORT_SECONDS = 0.0
policies = []
spare_time = SpareTime(lambda: True, idle_seconds=time.monotonic)

def kept_back(function, *args):
    end = time.monotonic() + 10
    while os.sched_getscheduler(0) != os.SCHED_IDLE and time.monotonic() < end:
        os.sched_yield()
    policies.append(os.sched_getscheduler(0))
    return function(*args)

def compute(function, *args):
    return spare_time(kept_back, function, *args)

executor = open_saved_model(sys.argv[1], compute=compute)
executor.plan(("x:0",), ("y:0",)).ways[0].run(np.ones(1, np.float32))
end = time.monotonic() + 10
while idle_threads() and time.monotonic() < end:  # the thread that made the last call may still be on its way out
    os.sched_yield()
print(set(policies) == {os.SCHED_IDLE}, len(os.listdir("/proc/self/task")) > 2, idle_threads())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has an idle priority for threads")
def test_threads_that_serve_have_their_priority_though_the_first_load_is_in_spare_time(exported):
    """In a process of its own, for TensorFlow starts its threads once."""
    told = subprocess.run(
        [sys.executable, "-c", SERVING_PRIORITIES, str(exported(models.half_plus_two))],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    assert told == "True True 0\n"


def test_callable_of_a_closed_session_refuses_rather_than_crashes(exported):
    session = load(exported)
    call = session.make_callable(config_pb2.CallableOptions(feed=["x:0"], fetch=["y:0"]))
    assert call(np.ones(1, np.float32))[0].tolist() == [2.5]
    session.close()
    with pytest.raises(TypeError, match="incompatible function arguments"):
        call(np.ones(1, np.float32))


def test_callable_that_is_gone_is_given_back_when_the_next_is_made(exported, monkeypatch):
    session = load(exported)
    given_back: list[int] = []
    give_back = pywrap_tf_session.TF_SessionReleaseCallable
    monkeypatch.setattr(
        pywrap_tf_session, "TF_SessionReleaseCallable", lambda *args: (given_back.append(args[1]), give_back(*args))
    )
    options = config_pb2.CallableOptions(feed=["x:0"], fetch=["y:0"])
    call = session.make_callable(options)
    handle = call._handle
    del call
    assert given_back == []
    session.make_callable(options)
    assert given_back == [handle]


def test_config_that_is_none_is_refused(exported):
    with pytest.raises(InvalidArgument, match="Unparseable ConfigProto"):
        load(exported, session_config=b"\xff")


@pytest.mark.parametrize("any_to_import", [True, False])
def test_missing_op_is_looked_for_in_packages_if_there_are_any(exported, monkeypatch, tmp_path, any_to_import):
    asked: list[set[str]] = []
    monkeypatch.setattr(op_packages, "any_to_import", lambda: any_to_import)
    monkeypatch.setattr(op_packages, "import_missing_ops", asked.append)
    with pytest.raises(NotFound, match="Op type not registered 'NoSuchOp'"):
        c_session.load(str(with_unknown_op(exported(models.half_plus_two), tmp_path / "1")), ["serve"], b"")
    assert ["NoSuchOp" in ops for ops in asked] == [True] * any_to_import


def with_unknown_op(source, path):
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = saved_model_pb2.SavedModel.FromString((source / "saved_model.pb").read_bytes())
    saved_model.meta_graphs[0].graph_def.node[0].op = "NoSuchOp"
    path.mkdir()
    (path / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    return path


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how long a thread waited for a CPU is told by Linux")
def test_other_threads_run_while_a_model_loads(tmp_path):
    models.wide(tmp_path / "1")
    waits = []
    for _ in range(3):  # the thread that loads may lose its CPU just while it has the GIL
        with Ticker() as ticker:
            c_session.load(str(tmp_path / "1"), ["serve"], b"").close()
        assert ticker.ticks > 10
        waits.append(ticker.longest_wait)
    assert min(waits) < 0.02


class Ticker:
    """A thread that asks for the GIL again and again; waits for a free CPU do not count."""

    def __init__(self) -> None:
        self.ticks = 0
        self.longest_wait = 0.0
        """Seconds."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick)

    def __enter__(self) -> Ticker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _tick(self) -> None:
        with open("/proc/thread-self/schedstat") as file:
            before = self._seconds(file)
            while not self._over.wait(0.0005):
                now = self._seconds(file)
                self.ticks += 1
                self.longest_wait = max(self.longest_wait, now - before - 0.0005)
                before = now

    def _seconds(self, file) -> float:
        file.seek(0)
        return time.perf_counter() - int(file.read().split()[1]) / 1e9
