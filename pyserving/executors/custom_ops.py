"""Ops that neither TensorFlow nor an installed package brings: libraries and modules that the operator names."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable

from pyserving.errors import FailedPrecondition

_log = logging.getLogger(__name__)


def bring_in(libraries: Iterable[str], modules: Iterable[str]) -> None:
    """Import `modules`, then load op `libraries`, for every model of the process; both stay until it ends.

    Raises FailedPrecondition that says which one cannot be had, and why. Takes as long as importing TensorFlow does:
    call in a thread.
    """
    for module in modules:
        _import(module)
    for library in libraries:
        _load(library)


def _import(module: str) -> None:
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:  # it may do anything
        raise FailedPrecondition(f"--import_modules: {module}: {type(error).__name__}: {error}") from error
    _log.info("Imported %s", module)


def _load(library: str) -> None:
    import tensorflow as tf  # a server of other models, told of modules alone, does without

    try:
        tf.load_op_library(library)
    except (tf.errors.OpError, RuntimeError) as error:
        reason = error.message if isinstance(error, tf.errors.OpError) else error
        raise FailedPrecondition(f"--custom_op_libraries: {library}: {reason}") from None
    _log.info("Loaded the op library %s", library)
