"""A SavedModel's MetaGraph in a TensorFlow graph session, and runs of it.

Two modules beside this one know TensorFlow's private parts: `c_session`, and `python_session` where that cannot be had.
The restored functions of `tf.saved_model.load` would check names, types and shapes in ways that TensorFlow Serving does
not, and some models do not load that way at all. Importing this module imports TensorFlow, which takes seconds.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from pyserving.errors import Cancelled, Internal, InvalidArgument, ServingError, error_for
from pyserving.executors import c_session, python_session, saved_model, saved_model_config
from pyserving.executors.executor import CALLER, POOL, Plan, Way
from pyserving.executors.graph_ops import GraphOps
from pyserving.machine import give_back_free_memory
from pyserving.signature import SignatureDef
from pyserving.spare_time import at_once

_log = logging.getLogger(__name__)

MOST_BYTES_TO_PLAN_TWICE = 64 << 20
"""Each callable holds its own copy of the graph's constants, so a frozen model as large as this gets one way only."""

MOST_SECONDS_TO_PLAN_TWICE = 0.1
"""A graph that takes TensorFlow longer to prepare takes it milliseconds to run, of which another way would save little;
and a load should take as little as can be from the models that serve meanwhile."""

_IN_THE_POOL = config_pb2.RunOptions()
_IN_THE_CALLER = config_pb2.RunOptions(inter_op_thread_pool=-1)
_Conversion: TypeAlias = Callable[[Any], np.ndarray]


class Session(Protocol):
    """A graph that lives in TensorFlow."""

    @property
    def meta_graph(self) -> Any:
        """The MetaGraphDef; its signatures at least."""

    @property
    def graph_bytes(self) -> int:
        """Size of the serialized GraphDef."""

    @property
    def may_change(self) -> bool:
        """Whether a run to the outputs of some signature may change the model; True where nobody has looked."""

    @property
    def graph_ops(self) -> GraphOps | None:
        """None for a graph that is not small."""

    @property
    def has_run_options(self) -> bool:
        """Whether callables heed the run options they are made with."""

    @property
    def planning_seconds(self) -> float:
        """Of a processor, that all callables so far have taken to make."""

    def make_callable(self, options: Any) -> Callable[..., list[Any]]: ...

    def data_type(self, tensor: str) -> int: ...

    def close(self) -> None: ...


def open_saved_model(
    path: str,
    *,
    tags: Collection[str] = ("serve",),
    session_config: bytes = b"",
    looks_for_state: bool = False,
    load_thread_pool: int | None = None,
    compute: Callable[..., Any] = at_once,
) -> TfSessionExecutor:
    """Load the version folder `path` as cc/saved_model/loader.cc does: graph, variables, init op.

    `session_config` is a serialized tensorflow.ConfigProto; the version itself may say more. Raises a ServingError with
    the code and sentence of the C++ loader; any number of threads may be loading. `looks_for_state`: to know whether
    runs may change the model, which takes up to tens of milliseconds. `load_thread_pool`: which of the session's pools
    restores and initializes the model; None: the calling thread. `compute(function, *args)` calls what takes TensorFlow
    long, where that leaves the GIL to others: a SpareTime.
    """
    load = partial(c_session.load, compute=compute) if c_session.is_available() else python_session.load
    # Restoring and initializing stay out of the threads that the runs of other models wait for.
    run_options = config_pb2.RunOptions(inter_op_thread_pool=-1 if load_thread_pool is None else load_thread_pool)
    with _load_errors(path):
        config = saved_model_config.session_config(path, session_config)
        session = load(path, tags, config, run_options, looks_for_state=looks_for_state)
        try:
            return TfSessionExecutor(session)
        except BaseException:
            session.close()
            raise


class TfSessionExecutor:
    """One loaded MetaGraph. Requests change its variables, if its graph does so, until it is closed."""

    may_be_batched = True

    def __init__(self, session: Session) -> None:
        self.signature_defs: Mapping[str, SignatureDef] = saved_model.signature_defs(session.meta_graph)
        self.signature_def_map: bytes = saved_model.signature_def_map(session.meta_graph)
        self.may_change = session.may_change
        self._session = session
        self._run_options = [(POOL, _IN_THE_POOL)]
        if session.has_run_options and session.graph_bytes < MOST_BYTES_TO_PLAN_TWICE:
            self._run_options.append((CALLER, _IN_THE_CALLER))
        self._callables: weakref.WeakSet[_Callable] = weakref.WeakSet()
        """All that still exist; `close` closes them, whoever may hold them."""

    def plan(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Plan:
        """One callable for each way. Raises what TensorFlow says of tensors that cannot be fed or fetched."""
        with _plan_errors():
            ways = tuple(self._ways(feeds, fetches))
            feed_types = tuple(saved_model.data_type(self._session.data_type(feed)) for feed in feeds)
            ops = self._session.graph_ops
            return Plan(feeds, fetches, feed_types, ways, ops is not None and ops.are_bounded(feeds, fetches))

    def _ways(self, feeds: Sequence[str], fetches: Sequence[str]) -> Iterator[Way]:
        before = self._session.planning_seconds
        for name, options in self._run_options:
            yield Way(name, self._callable(feeds, fetches, options))
            if self._session.planning_seconds - before > MOST_SECONDS_TO_PLAN_TWICE:
                return

    def _callable(self, feeds: Sequence[str], fetches: Sequence[str], run_options: Any) -> _Callable:
        options = config_pb2.CallableOptions(feed=feeds, fetch=fetches, run_options=run_options)
        call = self._session.make_callable(options)
        made = _Callable(call, _conversions([self._session.data_type(fetch) for fetch in fetches]))
        self._callables.add(made)
        return made

    def close(self) -> None:
        """Plans that somebody still holds answer from now on as a closed session does, and keep no memory."""
        for made in self._callables:
            made.close()
        self._session.close()
        give_back_free_memory()


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
        for value in values:
            if type(value) is not np.ndarray:
                return [value if type(value) is np.ndarray else _rank_zero(value) for value in values]
        return values

    def close(self) -> None:
        self._call = _closed


def _closed(*arrays: np.ndarray) -> list[Any]:
    raise Cancelled("Session has been closed.")


def _rank_zero(value: Any) -> np.ndarray:
    """TensorFlow hands scalars over as NumPy scalars and bytes."""
    return np.array(value, dtype=object) if isinstance(value, bytes) else np.asarray(value)


def _conversions(data_types: Sequence[int]) -> list[tuple[int, _Conversion]]:
    """What to do to which output, for the few that do not come out of TensorFlow as we want them."""
    conversions: list[tuple[int, _Conversion]] = []
    for index, value in enumerate(data_types):
        if saved_model.is_reference(value):  # comes out as the variable's own memory, which the next run changes
            conversions.append((index, np.array))
        elif (dtype := saved_model.data_type(value).numpy) is not None and dtype.names:
            conversions.append((index, partial(_view, dtype=dtype)))  # quantized: comes out as plain integers
    return conversions


def _view(value: Any, dtype: np.dtype) -> np.ndarray:
    return np.asarray(value).view(dtype)


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
