"""XLA's switch. What it does when it is found is seen in a process of its own: it holds for good."""

from __future__ import annotations

import ctypes

from tensorflow.python.client import _pywrap_tf_session

from pyserving.executors import xla


def test_tensorflow_has_the_switch():
    """If this fails, TensorFlow took it away, and --noxla_cpu_compilation_enabled changes nothing any more."""
    assert hasattr(ctypes.CDLL(_pywrap_tf_session.__file__), xla._DISABLE)


def test_a_switch_that_is_out_of_reach_is_told(monkeypatch, caplog):
    monkeypatch.setattr(xla, "_DISABLE", "no_such_function")
    assert not xla.forbid()
    assert caplog.messages == ["XLA stays on: this TensorFlow has no switch for it in reach"]
