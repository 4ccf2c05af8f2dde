"""TensorFlow's C API under our hands, and its bindings on a session that they did not make."""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
import pytest
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.client import pywrap_tf_session

from pyserving.errors import InvalidArgument, NotFound
from pyserving.executors import c_session, op_packages
from tests import models


def load(exported, model=models.half_plus_two, session_config: bytes = b"") -> c_session.CSession:
    return c_session.load(str(exported(model)), ["serve"], session_config)


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
