"""XLA, which graphs may ask for: TensorFlow compiles for them, unless the operator will have none of it."""

from __future__ import annotations

import ctypes
import logging

_log = logging.getLogger(__name__)

_DISABLE = "_ZN10tensorflow21DisableXlaCompilationEv"
"""`tensorflow::DisableXlaCompilation()`, which tensorflow_model_server calls unless a flag keeps it from that."""


def forbid() -> bool:
    """From now on, a graph of this process that XLA has to compile fails with INTERNAL `XLA compilation disabled`.

    False, with a warning, where this TensorFlow keeps the switch to itself. Takes as long as importing TensorFlow does.
    """
    from tensorflow.python.client import _pywrap_tf_session

    try:
        getattr(ctypes.CDLL(_pywrap_tf_session.__file__), _DISABLE)()
    except (AttributeError, OSError):
        _log.warning("XLA stays on: this TensorFlow has no switch for it in reach")
        return False
    return True
