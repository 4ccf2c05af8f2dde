"""How many of TensorFlow's threads the ops of a run are divided among."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

_SET_MOST_THREADS = "_ZN10tensorflow26SetPerThreadMaxParallelismEi"
"""SetPerThreadMaxParallelism(int), of tensorflow/core/util/work_sharder.h, as C++ names it in its libraries."""


def keep_ops_in_this_thread() -> bool:
    """From now on, ops of runs that the calling thread makes by itself are not divided among others.

    For short runs: to wake a thread takes longer than what that would do, and who waits for it, longer still. A mean of
    150,528 floats, for 8 requests at a time on two CPUs, was made twice as often.

    True when there is nothing left to do, be it that this TensorFlow does not let others at it; False while TensorFlow
    has not been imported.
    """
    bindings = sys.modules.get("tensorflow.python.client._pywrap_tf_session")
    if bindings is None or bindings.__file__ is None:
        return False
    with suppress(OSError, AttributeError):
        set_most_threads = getattr(ctypes.CDLL(bindings.__file__), _SET_MOST_THREADS)
        set_most_threads.restype, set_most_threads.argtypes = None, (ctypes.c_int,)
        set_most_threads(1)
    return True
