"""A SavedModel in a session that TensorFlow's Python API makes, for a TensorFlow whose C API is out of reach.

It serves the same; only, other Python threads stand still for tens of milliseconds while it loads.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from time import thread_time
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.framework import ops

from pyserving.executors import graph_ops, op_packages, saved_model, stateful_ops

_IN_THE_CALLING_THREAD = config_pb2.RunOptions(inter_op_thread_pool=-1)


def load(
    path: str,
    tags: Collection[str],
    session_config: bytes,
    run_options: Any = _IN_THE_CALLING_THREAD,
    *,
    looks_for_state: bool = False,
) -> PythonSession:
    """Load the version folder `path` in the steps of cc/saved_model/loader.cc: graph, variables, init op.

    `run_options` are those of restoring and initializing.
    """
    meta_graph = saved_model.read_meta_graph(path, tags)
    graph_def = memoryview(meta_graph.graph_def.SerializeToString())
    if op_packages.any_to_import():
        op_packages.import_missing_ops(saved_model.op_types(graph_def))
    graph = _import_graph(meta_graph)
    made = tf.compat.v1.Session(graph=graph, config=config_pb2.ConfigProto.FromString(session_config))
    session = PythonSession(made, meta_graph)
    session.may_change = not looks_for_state or stateful_ops.may_change(graph_def, meta_graph)
    try:
        _initialize(session, path, meta_graph, run_options)
    except BaseException:
        session.close()
        raise
    return session


def _import_graph(meta_graph: Any) -> Any:
    graph = tf.Graph()
    info = meta_graph.meta_info_def
    with graph.as_default():
        tf.graph_util.import_graph_def(
            meta_graph.graph_def,
            name="",
            producer_op_list=info.stripped_op_list if info.HasField("stripped_op_list") else None,
        )
    graph.finalize()
    return graph


def _initialize(session: PythonSession, path: str, meta_graph: Any, run_options: Any) -> None:
    assets = saved_model.asset_feeds(path, meta_graph)
    variables = tf.io.gfile.join(path, "variables", "variables")
    if tf.io.gfile.exists(f"{variables}.index"):
        saver = meta_graph.saver_def
        feeds = {saver.filename_tensor_name: saved_model.scalar(variables), **assets}
        _run_once(session, saver.restore_op_name, feeds, run_options)
    init_op = saved_model.init_op(path, meta_graph)
    if init_op is not None:
        _run_once(session, init_op, assets, run_options)


def _run_once(session: PythonSession, target: str, feeds: Mapping[str, np.ndarray], run_options: Any) -> None:
    options = config_pb2.CallableOptions(feed=feeds, target=[target], run_options=run_options)
    session.make_callable(options)(*feeds.values())


class PythonSession:
    """One loaded MetaGraph. Any number of threads may make and call callables until it is closed."""

    def __init__(self, session: Any, meta_graph: Any) -> None:
        self.meta_graph = meta_graph
        self.may_change = True
        self.graph_ops = graph_ops.read(memoryview(meta_graph.graph_def.SerializeToString()))
        self.graph_bytes: int = meta_graph.graph_def.ByteSize()
        self.has_run_options = hasattr(session, "_make_callable_from_options")
        self.planning_seconds = 0.0
        self._session = session

    def make_callable(self, options: Any) -> Callable[..., list[Any]]:
        """The C++ session's own callable: no check of static shapes, no cast of dtypes, a fifth of the time.

        Should TensorFlow take it away, its public one does, with those checks and without run options.
        """
        began = thread_time()
        try:
            return self._made(options)
        finally:
            self.planning_seconds += thread_time() - began

    def _made(self, options: Any) -> Callable[..., list[Any]]:
        if self.has_run_options:
            return self._session._make_callable_from_options(options)  # type: ignore[no-any-return]
        fetches = [*options.fetch, *map(self._session.graph.get_operation_by_name, options.target)]
        return self._session.make_callable(fetches, feed_list=list(options.feed))  # type: ignore[no-any-return]

    def data_type(self, tensor: str) -> int:
        """Of types.proto, for a tensor of the graph."""
        found = self._session.graph.get_tensor_by_name(tensor if ":" in tensor else f"{tensor}:0")
        return int(found.dtype.as_datatype_enum)

    def close(self) -> None:
        graph = self._session.graph
        self._session.close()
        del self._session
        # A graph is full of reference cycles; without this it waits for the garbage collector, which holds up requests.
        ops.dismantle_graph(graph)
