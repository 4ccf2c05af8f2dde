"""What stands behind the C API: TensorFlow's Python session, by its private callable or its public one."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from pyserving.errors import InvalidArgument
from pyserving.executors import python_session
from pyserving.executors.tf_session import TfSessionExecutor
from tests import models


def test_the_private_callable_is_still_there():
    """If this fails, TensorFlow took it away: all works, but slower, and shapes are checked that were not."""
    assert callable(tf.compat.v1.Session._make_callable_from_options)


def test_without_the_private_callable_the_public_one_serves(exported, monkeypatch):
    monkeypatch.delattr(tf.compat.v1.Session.__mro__[1], "_make_callable_from_options")
    executor = TfSessionExecutor(python_session.load(str(exported(models.half_plus_two)), ["serve"], b""))
    plan = executor.plan(("x:0",), ("y:0",))
    assert [way.name for way in plan.ways] == ["pool"]
    assert plan.ways[0].run(np.array([[2]], np.float32))[0].tolist() == [[3.0]]
    examples = executor.plan(("tf_example:0",), ("y:0",))
    with pytest.raises(InvalidArgument, match=r"^Name: <unknown>, Feature: x \(data type: float\) is required"):
        examples.ways[0].run(np.array([b""], object))
    with pytest.raises(InvalidArgument):
        executor.plan(("no:0",), ("y:0",))


def test_graph_of_a_closed_session_waits_for_no_collection(exported):
    gc.collect()
    gc.disable()
    try:
        session = python_session.load(str(exported(models.half_plus_two)), ["serve"], b"")
        call = session.make_callable(config_pb2.CallableOptions(feed=["x:0"], fetch=["y:0"]))
        assert call(np.ones(1, np.float32))[0].tolist() == [2.5]
        del call
        graph = weakref.ref(session._session.graph)
        session.close()
        assert graph() is None
    finally:
        gc.enable()
