"""Bring in the packages whose ops TensorFlow Serving links and TensorFlow does not, when a graph needs them."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Callable, Mapping
from typing import Any

from tensorflow.python.framework import op_def_registry

_log = logging.getLogger(__name__)

OP_PACKAGES = {"ydf_tf": "SimpleML", "tensorflow_decision_forests": "SimpleML", "tensorflow_text": ""}
"""Importing one registers its ops, whose names begin so. The first two are two generations of the same package."""


def _is_registered(op: str) -> bool:
    return op_def_registry.get(op) is not None


def import_missing_ops(
    graph_def: Any, packages: Mapping[str, str] = OP_PACKAGES, is_registered: Callable[[str], bool] = _is_registered
) -> None:
    """Import those installed `packages` that may have an op which the graph needs and nobody has registered.

    Ops that are missing then are left for TensorFlow to name.
    """
    missing = {op for op in _op_types(graph_def) if not is_registered(op)}
    for package, prefix in packages.items():
        wanted = {op for op in missing if op.startswith(prefix)}
        if wanted and importlib.util.find_spec(package) is not None:
            _import(package, wanted)
            missing = {op for op in missing if not is_registered(op)}


def _op_types(graph_def: Any) -> set[str]:
    """Types of all nodes, those in functions too, but for calls of the graph's own functions."""
    functions = graph_def.library.function
    types = {node.op for node in graph_def.node}
    types.update(node.op for function in functions for node in function.node_def)
    return types - {function.signature.name for function in functions}


def _import(package: str, wanted: set[str]) -> None:
    _log.info("Importing %s for the ops %s", package, ", ".join(sorted(wanted)))
    try:
        importlib.import_module(package)
    except Exception as error:  # built for another TensorFlow, say: any error is possible, and the graph may do without
        _log.warning("Could not import %s: %s", package, error)
