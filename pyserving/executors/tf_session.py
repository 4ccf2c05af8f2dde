"""A SavedModel's MetaGraph in a TensorFlow graph session: the only module that knows TensorFlow's private callables.

The restored functions of `tf.saved_model.load` would check names, types and shapes in ways that TensorFlow Serving does
not, and some models do not load that way at all. Importing this module imports TensorFlow, which takes seconds.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.framework import ops

from pyserving.errors import Cancelled, Internal, InvalidArgument, ServingError, error_for
from pyserving.executors import op_packages, saved_model
from pyserving.executors.executor import Plan, Way
from pyserving.signature import DataType, SignatureDef

_log = logging.getLogger(__name__)

MOST_BYTES_TO_PLAN_TWICE = 64 << 20
"""Each callable holds its own copy of the graph's constants, so a frozen model as large as this gets one way only."""

_POOL = config_pb2.RunOptions()
_CALLER = config_pb2.RunOptions(inter_op_thread_pool=-1)
_Conversion: TypeAlias = Callable[[Any], np.ndarray]


def open_saved_model(
    path: str, *, tags: Collection[str] = ("serve",), session_config: bytes = b""
) -> TfSessionExecutor:
    """Load the version folder `path` in the steps of cc/saved_model/loader.cc: graph, variables, init op.

    `session_config` is a serialized tensorflow.ConfigProto. Raises a ServingError with the code and sentence of the C++
    loader; any number of threads may be loading.
    """
    with _load_errors(path):
        meta_graph = saved_model.read_meta_graph(path, tags)
        op_packages.import_missing_ops(meta_graph.graph_def)
        graph = _import_graph(meta_graph)
        session = tf.compat.v1.Session(graph=graph, config=config_pb2.ConfigProto.FromString(session_config))
        executor = TfSessionExecutor(session, meta_graph)
        try:
            _initialize(session, path, meta_graph)
        except BaseException:
            executor.close()
            raise
        return executor


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


def _initialize(session: Any, path: str, meta_graph: Any) -> None:
    assets = saved_model.asset_feeds(path, meta_graph)
    variables = tf.io.gfile.join(path, "variables", "variables")
    if tf.io.gfile.exists(f"{variables}.index"):
        saver = meta_graph.saver_def
        _run_once(session, saver.restore_op_name, {saver.filename_tensor_name: saved_model.scalar(variables), **assets})
    init_op = saved_model.init_op(path, meta_graph)
    if init_op is not None:
        _run_once(session, init_op, assets)


def _run_once(session: Any, target: str, feeds: Mapping[str, np.ndarray]) -> None:
    _make_callable(session, config_pb2.CallableOptions(feed=feeds, target=[target]))(*feeds.values())


class TfSessionExecutor:
    """One loaded MetaGraph. Requests change its variables, if its graph does so, until it is closed."""

    def __init__(self, session: Any, meta_graph: Any) -> None:
        self.signature_defs: Mapping[str, SignatureDef] = saved_model.signature_defs(meta_graph)
        self.signature_def_map: bytes = saved_model.signature_def_map(meta_graph)
        self._session = session
        self._run_options = [("pool", _POOL)]
        if _has_callables(session) and meta_graph.graph_def.ByteSize() < MOST_BYTES_TO_PLAN_TWICE:
            self._run_options.append(("caller", _CALLER))
        self._callables: weakref.WeakSet[_Callable] = weakref.WeakSet()
        """All that still exist; `close` closes them, whoever may hold them."""

    def plan(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Plan:
        """One callable for each way. Raises what TensorFlow says of tensors that cannot be fed or fetched."""
        with _plan_errors():
            ways = tuple(Way(name, self._callable(feeds, fetches, options)) for name, options in self._run_options)
            return Plan(feeds, fetches, tuple(_data_type(self._tensor(feed)) for feed in feeds), ways)

    def _callable(self, feeds: Sequence[str], fetches: Sequence[str], run_options: Any) -> _Callable:
        options = config_pb2.CallableOptions(feed=feeds, fetch=fetches, run_options=run_options)
        call = _make_callable(self._session, options)
        made = _Callable(call, _conversions([self._tensor(fetch) for fetch in fetches]))
        self._callables.add(made)
        return made

    def _tensor(self, name: str) -> Any:
        return self._session.graph.get_tensor_by_name(name if ":" in name else f"{name}:0")

    def close(self) -> None:
        """Plans that somebody still holds answer from now on as a closed session does, and keep no memory."""
        graph = self._session.graph
        for made in self._callables:
            made.close()
        self._session.close()
        del self._session
        # A graph is full of reference cycles; without this it waits for the garbage collector, which holds up requests.
        ops.dismantle_graph(graph)


class _Callable:
    """One prepared run. Also what keeps the model's memory, so it lets go of it when the model is closed."""

    __slots__ = ("__weakref__", "_call", "_conversions")

    def __init__(self, call: Callable[..., list[Any]], conversions: Sequence[tuple[int, _Conversion]]) -> None:
        self._call = call
        self._conversions = conversions

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        try:
            values = self._call(*arrays)
        except tf.errors.OpError as error:
            raise _serving_error(error) from None
        except UnicodeDecodeError as error:
            # TensorFlow's Python cannot read the sentence of its own C++, which quotes a request's bytes.
            raise InvalidArgument(error.object.decode("utf-8", "replace")) from None
        except (TypeError, ValueError) as error:
            raise InvalidArgument(str(error)) from error
        for index, convert in self._conversions:
            values[index] = convert(values[index])
        return [value if type(value) is np.ndarray else _rank_zero(value) for value in values]

    def close(self) -> None:
        self._call = _closed


def _closed(*arrays: np.ndarray) -> list[Any]:
    raise Cancelled("Session has been closed.")


def _rank_zero(value: Any) -> np.ndarray:
    """TensorFlow hands scalars over as NumPy scalars and bytes."""
    return np.array(value, dtype=object) if isinstance(value, bytes) else np.asarray(value)


def _conversions(tensors: Sequence[Any]) -> list[tuple[int, _Conversion]]:
    """What to do to which output, for the few that do not come out of TensorFlow as we want them."""
    conversions: list[tuple[int, _Conversion]] = []
    for index, tensor in enumerate(tensors):
        if tensor.dtype.is_quantized:  # comes out as plain integers
            conversions.append((index, partial(_view, dtype=np.dtype(tensor.dtype.as_numpy_dtype))))
        elif tensor.dtype._is_ref_dtype:  # comes out as the variable's own memory, which the next run changes
            conversions.append((index, np.array))
    return conversions


def _view(value: Any, dtype: np.dtype) -> np.ndarray:
    return np.asarray(value).view(dtype)


def _data_type(tensor: Any) -> DataType:
    return saved_model.data_type(tensor.dtype.as_datatype_enum)


def _has_callables(session: Any) -> bool:
    return hasattr(session, "_make_callable_from_options")


def _make_callable(session: Any, options: Any) -> Callable[..., list[Any]]:
    """The C++ session's own callable: no check of static shapes, no cast of dtypes, a fifth of the time.

    Should TensorFlow take it away, its public one does, with those checks and without run options.
    """
    if _has_callables(session):
        return session._make_callable_from_options(options)  # type: ignore[no-any-return]
    fetches = [*options.fetch, *map(session.graph.get_operation_by_name, options.target)]
    return session.make_callable(fetches, feed_list=list(options.feed))  # type: ignore[no-any-return]


@contextmanager
def _load_errors(path: str) -> Iterator[None]:
    try:
        yield
    except ServingError:
        raise
    except tf.errors.OpError as error:
        raise _serving_error(error) from None
    except ValueError as error:  # what import_graph_def makes of INVALID_ARGUMENT
        raise InvalidArgument(str(error)) from error
    except Exception as error:  # a folder may hold anything; the load fails, not the server
        _log.exception("Could not load %s", path)
        raise Internal(f"{type(error).__name__}: {error}") from error


@contextmanager
def _plan_errors() -> Iterator[None]:
    try:
        yield
    except tf.errors.OpError as error:
        raise _serving_error(error) from None
    except (TypeError, ValueError, KeyError) as error:  # the public callable's way of saying the same
        raise InvalidArgument(str(error)) from error


def _serving_error(error: Any) -> ServingError:
    if isinstance(error.__context__, tf.errors.OpError):  # the public callable's, decorated with Python's stack traces
        error = error.__context__
    return error_for(error.error_code, error.message)
