"""Ops that stay in one thread, of the TensorFlow that is installed."""

from __future__ import annotations

import ctypes
import sys
from concurrent.futures import ThreadPoolExecutor

from tensorflow.python.client import _pywrap_tf_session

from pyserving.executors import intra_op
from pyserving.executors.intra_op import keep_ops_in_this_thread


def most_threads() -> int:
    """Of an op that the calling thread runs."""
    return ctypes.CDLL(_pywrap_tf_session.__file__)._ZN10tensorflow26GetPerThreadMaxParallelismEv()


def test_ops_of_the_thread_that_asks_are_kept_there_and_those_of_others_are_not():
    with ThreadPoolExecutor(1) as asking, ThreadPoolExecutor(1) as other:
        before = asking.submit(most_threads).result()
        assert before > 1
        assert asking.submit(keep_ops_in_this_thread).result()
        assert asking.submit(most_threads).result() == 1
        assert other.submit(most_threads).result() == before


def test_a_process_without_tensorflow_is_told_so(monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorflow.python.client._pywrap_tf_session")
    assert not keep_ops_in_this_thread()


def test_a_tensorflow_that_lets_nobody_at_it_is_left_alone(monkeypatch):
    monkeypatch.setattr(intra_op, "_SET_MOST_THREADS", "no_such_function")
    with ThreadPoolExecutor(1) as asking:
        assert asking.submit(keep_ops_in_this_thread).result()
        assert asking.submit(most_threads).result() > 1


def test_the_module_that_is_looked_for_is_there():
    assert sys.modules["tensorflow.python.client._pywrap_tf_session"] is _pywrap_tf_session
