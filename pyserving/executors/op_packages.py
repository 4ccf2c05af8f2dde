"""Bring in the packages whose ops TensorFlow Serving links and TensorFlow does not, when a graph needs them."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable, Collection, Mapping

from tensorflow.python.framework import op_def_registry

_log = logging.getLogger(__name__)

OP_PACKAGES = {"ydf_tf": "SimpleML", "tensorflow_decision_forests": "SimpleML", "tensorflow_text": ""}
"""Importing one registers its ops, whose names begin so. The first two are two generations of the same package."""


def _is_registered(op: str) -> bool:
    return op_def_registry.get(op) is not None


def any_to_import(packages: Mapping[str, str] = OP_PACKAGES) -> bool:
    """Whether a package is installed that nobody has imported; without one, nobody need know a graph's ops."""
    return any(package not in sys.modules and importlib.util.find_spec(package) is not None for package in packages)


def import_missing_ops(
    op_types: Collection[str],
    packages: Mapping[str, str] = OP_PACKAGES,
    is_registered: Callable[[str], bool] = _is_registered,
) -> None:
    """Import those installed `packages` that may have an op which is needed and nobody has registered.

    Ops that are missing then are left for TensorFlow to name.
    """
    missing = {op for op in op_types if not is_registered(op)}
    for package, prefix in packages.items():
        wanted = {op for op in missing if op.startswith(prefix)}
        if wanted and importlib.util.find_spec(package) is not None:
            _import(package, wanted)
            missing = {op for op in missing if not is_registered(op)}


def _import(package: str, wanted: set[str]) -> None:
    _log.info("Importing %s for the ops %s", package, ", ".join(sorted(wanted)))
    try:
        importlib.import_module(package)
    except Exception as error:  # built for another TensorFlow, say: any error is possible, and the graph may do without
        _log.warning("Could not import %s: %s", package, error)
