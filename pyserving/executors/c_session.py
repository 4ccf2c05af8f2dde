"""A SavedModel in a session of TensorFlow's C API, which lets other threads run while it loads and closes models.

TensorFlow's Python way to the same session keeps the GIL for as long as it imports the graph (40 to 140 ms for models
of a usual size) and then makes a Python object for every node of it. Here C does all that; Python gets the signatures
and, through pybind11's conduit, the use of TensorFlow's own bindings on a session that they did not make.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_void_p, py_object
from functools import cache, partial
from threading import get_ident
from time import thread_time
from typing import Any

from tensorflow.core.protobuf import config_pb2
from tensorflow.python.client import _pywrap_tf_session
from tensorflow.python.client import pywrap_tf_session as bindings

from pyserving.errors import Code, InvalidArgument, OutOfRange, ServingError, error_for
from pyserving.executors import graph_ops, op_packages, saved_model, stateful_ops
from pyserving.spare_time import at_once

_CONDUIT = "_pybind11_conduit_v1_"
_IN_THE_CALLING_THREAD = config_pb2.RunOptions(inter_op_thread_pool=-1)


class _Buffer(ctypes.Structure):
    """TF_Buffer of tensorflow/c/tf_buffer.h."""

    _fields_ = (("data", c_void_p), ("length", c_size_t), ("deallocator", c_void_p))


class _Output(ctypes.Structure):
    """TF_Output of tensorflow/c/c_api.h."""

    _fields_ = (("operation", c_void_p), ("index", c_int))


# As tensorflow/c/c_api.h declares them: name, result, parameters.
_FUNCTIONS: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
    ("TF_NewStatus", c_void_p, ()),
    ("TF_GetCode", c_int, (c_void_p,)),
    ("TF_Message", c_char_p, (c_void_p,)),
    ("TF_DeleteStatus", None, (c_void_p,)),
    ("TF_NewBuffer", POINTER(_Buffer), ()),
    ("TF_NewBufferFromString", POINTER(_Buffer), (c_char_p, c_size_t)),
    ("TF_DeleteBuffer", None, (POINTER(_Buffer),)),
    ("TF_NewSessionOptions", c_void_p, ()),
    ("TF_SetConfig", None, (c_void_p, c_char_p, c_size_t, c_void_p)),
    ("TF_DeleteSessionOptions", None, (c_void_p,)),
    ("TF_NewGraph", c_void_p, ()),
    ("TF_NewSession", c_void_p, (c_void_p, c_void_p, c_void_p)),
    ("TF_GraphOperationByName", c_void_p, (c_void_p, c_char_p)),
    ("TF_OperationNumOutputs", c_int, (c_void_p,)),
    ("TF_OperationOpType", c_char_p, (c_void_p,)),
    ("TF_OperationOutputType", c_int, (_Output,)),
    ("TF_DeleteGraph", None, (c_void_p,)),
    (
        "TF_LoadSessionFromSavedModel",
        c_void_p,
        (
            *(c_void_p, POINTER(_Buffer), c_char_p, POINTER(c_char_p)),
            *(c_int, c_void_p, POINTER(_Buffer), c_void_p),
        ),
    ),
    ("TF_CloseSession", None, (c_void_p, c_void_p)),
    ("TF_DeleteSession", None, (c_void_p, c_void_p)),
)


@cache
def _c_api() -> ctypes.CDLL:
    """The library that the bindings are linked with. AttributeError where it lets nobody else at its functions."""
    library = ctypes.CDLL(_pywrap_tf_session.__file__)
    for name, result, parameters in _FUNCTIONS:
        function = getattr(library, name)
        function.restype, function.argtypes = result, parameters
    return library


@cache
def is_available() -> bool:
    """Whether this TensorFlow can be used so: its C API is in reach, and its bindings know pybind11's conduit."""
    try:
        _c_api()
    except (AttributeError, OSError):
        return False
    return hasattr(bindings.TF_Session, _CONDUIT)


@contextmanager
def _status() -> Iterator[int]:
    """A TF_Status; what it says when it is given back is raised as the ServingError that it stands for."""
    api = _c_api()
    status = api.TF_NewStatus()
    try:
        yield status
        code, message = api.TF_GetCode(status), api.TF_Message(status).decode(errors="replace")
    finally:
        api.TF_DeleteStatus(status)
    if code != Code.OK:
        raise error_for(code, message)


@contextmanager
def _buffer(content: bytes | None = None) -> Iterator[Any]:
    api = _c_api()
    buffer = api.TF_NewBuffer() if content is None else api.TF_NewBufferFromString(content, len(content))
    try:
        yield buffer
    finally:
        api.TF_DeleteBuffer(buffer)


@contextmanager
def _session_options(session_config: bytes) -> Iterator[int]:
    api = _c_api()
    options = api.TF_NewSessionOptions()
    try:
        with _status() as status:
            api.TF_SetConfig(options, session_config, len(session_config), status)
        yield options
    finally:
        api.TF_DeleteSessionOptions(options)


def load(
    path: str,
    tags: Collection[str],
    session_config: bytes,
    run_options: Any = _IN_THE_CALLING_THREAD,
    *,
    looks_for_state: bool = False,
    compute: Callable[..., Any] = at_once,
) -> CSession:
    """What cc/saved_model/loader.cc makes of the version folder `path`, or the ServingError that it gives.

    `run_options` are those of restoring and initializing. `compute(function, *args)` calls the functions of C that take
    long.
    """
    saved_model.check_is_there(path)
    open_model = partial(_load, path, tags, session_config, run_options, looks_for_state, compute)
    try:
        return open_model()
    except ServingError as error:
        failure = error
    meta_graph = saved_model.read_meta_graph(path, tags)  # should this fail, it has the sentence that is expected
    if not op_packages.any_to_import():
        raise failure
    op_packages.import_missing_ops(saved_model.op_types(memoryview(meta_graph.graph_def.SerializeToString())))
    return open_model()


def _load(
    path: str,
    tags: Collection[str],
    session_config: bytes,
    run_options: Any,
    looks_for_state: bool,
    compute: Callable[..., Any],
) -> CSession:
    api = _c_api()
    names = (c_char_p * len(tags))(*(tag.encode() for tag in tags))
    graph = api.TF_NewGraph()
    session = None
    with (
        _buffer() as meta_graph,
        _buffer(run_options.SerializeToString()) as run_options_buffer,
        _session_options(session_config) as options,
    ):
        try:
            _start_shared_threads(_without_name(session_config))
            open_session = at_once if _has_own_threads(session_config) else compute
            with _status() as status:
                session = open_session(
                    api.TF_LoadSessionFromSavedModel,
                    *(options, run_options_buffer, path.encode(), names, len(tags), graph, meta_graph, status),
                )
        finally:
            if session is None:
                api.TF_DeleteGraph(graph)
        return CSession(session, graph, _content(meta_graph.contents), looks_for_state=looks_for_state, compute=compute)


@cache
def _start_shared_threads(session_config: bytes) -> None:
    """Threads keep the priority of those who start them, and the first session starts those that all sessions share."""
    api = _c_api()
    graph = api.TF_NewGraph()
    try:
        with _session_options(session_config) as options:
            with _status() as status:
                session = api.TF_NewSession(graph, options, status)
            with _status() as status:
                api.TF_DeleteSession(session, status)
    finally:
        api.TF_DeleteGraph(graph)


def _without_name(session_config: bytes) -> bytes:
    """Of the version whose session it is: TensorFlow refuses two of a name, and each would count as another config."""
    config = config_pb2.ConfigProto.FromString(session_config)
    config.experimental.ClearField("session_metadata")
    nameless: bytes = config.SerializeToString()
    return nameless


def _has_own_threads(session_config: bytes) -> bool:
    """Whether a session starts threads that run its requests."""
    config = config_pb2.ConfigProto.FromString(session_config)
    return bool(config.use_per_session_threads or config.session_inter_op_thread_pool)


def _content(buffer: _Buffer) -> memoryview:
    """The bytes of a TF_Buffer, for as long as it lives."""
    return memoryview((ctypes.c_char * buffer.length).from_address(buffer.data)).cast("B")


class _Conduit:
    """TensorFlow's bindings take this for the C++ object at an address: pybind11's protocol for foreign objects."""

    __slots__ = ("_capsule",)

    def __init__(self, address: int) -> None:
        self._capsule: Any = _new_capsule(address, None, None)

    def _pybind11_conduit_v1_(self, platform: bytes, type_info: object, kind: bytes) -> Any:
        return self._capsule if kind == b"raw_pointer_ephemeral" else None

    def close(self) -> None:
        """From now on the bindings raise TypeError."""
        self._capsule = None


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = py_object, (c_void_p, c_char_p, c_void_p)


class CSession:
    """One loaded MetaGraph. Any number of threads may make and call callables until it is closed."""

    has_run_options = True

    def __init__(
        self,
        session: int,
        graph: int,
        meta_graph: memoryview,
        *,
        looks_for_state: bool = False,
        compute: Callable[..., Any] = at_once,
    ) -> None:
        """`meta_graph` is the serialized MetaGraphDef; it is read here and not kept."""
        self.meta_graph, graph_def = saved_model.split(meta_graph)
        self.graph_bytes = len(graph_def)
        self.may_change = not looks_for_state or stateful_ops.may_change(graph_def, self.meta_graph)
        self.graph_ops = graph_ops.read(graph_def)
        if op_packages.any_to_import():  # for the ops of functions, which nobody looks for before they run
            op_packages.import_missing_ops(saved_model.op_types(graph_def))
        self.planning_seconds = 0.0
        self._compute = compute
        self._loading_thread = get_ident()
        self._session = session
        self._graph = graph
        self._conduit = _Conduit(session)
        self._released: deque[int] = deque()
        """Handles of callables that nobody holds any more."""

    def make_callable(self, options: Any) -> Callable[..., list[Any]]:
        """What a CallableOptions describes. Raises TensorFlow's own errors, now and when it is called."""
        with suppress(IndexError):  # another thread may be at it, too
            while True:
                bindings.TF_SessionReleaseCallable(self._conduit, self._released.popleft())
        for fetch in options.fetch:
            self._check_has_output(fetch)
        is_loading = get_ident() == self._loading_thread
        compute = self._compute if is_loading else at_once  # for a request, which waits for it
        buffer = bindings.TF_NewBufferFromString(options.SerializeToString())
        try:
            handle, seconds = compute(_timed, bindings.TF_SessionMakeCallable, self._conduit, buffer)
        finally:
            bindings.TF_DeleteBuffer(buffer)
        self.planning_seconds += seconds
        return _CCallable(self._conduit, handle, self._released)

    def data_type(self, tensor: str) -> int:
        """Of types.proto, for a tensor of the graph. InvalidArgument when there is no such tensor."""
        name, _, index = tensor.partition(":")
        api = _c_api()
        operation = api.TF_GraphOperationByName(self._graph, name.encode())
        if operation is None or int(index or 0) >= api.TF_OperationNumOutputs(operation):
            raise InvalidArgument(f"Tensor {tensor} was not found in the Graph")
        return int(api.TF_OperationOutputType(_Output(operation, int(index or 0))))

    def _check_has_output(self, tensor: str) -> None:
        """As graph.cc says it, to which TensorFlow comes when it has prepared the rest of the graph. Each SavedModel of
        Keras has a signature of this kind, with its init op."""
        name, _, number = tensor.partition(":")
        api, index = _c_api(), int(number or 0)
        operation = api.TF_GraphOperationByName(self._graph, name.encode())
        if operation is not None and index >= (outputs := api.TF_OperationNumOutputs(operation)):
            kind = api.TF_OperationOpType(operation).decode()
            raise OutOfRange(f"Node '{name}' (type: '{kind}', num of outputs: {outputs}) does not have output {index}")

    def close(self) -> None:
        """Callables that somebody still holds refuse to be called."""
        self._conduit.close()
        api = _c_api()
        try:
            with _status() as status:
                api.TF_CloseSession(self._session, status)
        finally:
            try:
                with _status() as status:
                    self._compute(api.TF_DeleteSession, self._session, status)
            finally:
                self._compute(api.TF_DeleteGraph, self._graph)


def _timed(function: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """What it returns, and for how many seconds its thread was at work."""
    began = thread_time()
    result = function(*args)
    return result, thread_time() - began


class _CCallable:
    """A prepared run of a session.

    What it holds is given back when the next one is made, or with the session: it may go away on the event loop, which
    has no time for that, or while another thread is closing the session.
    """

    __slots__ = ("_conduit", "_handle", "_released")

    def __init__(self, conduit: _Conduit, handle: int, released: deque[int]) -> None:
        self._conduit = conduit
        self._handle = handle
        self._released = released

    def __call__(self, *arrays: Any) -> list[Any]:
        return bindings.TF_SessionRunCallable(self._conduit, self._handle, arrays, None)  # type: ignore[no-any-return]

    def __del__(self) -> None:
        self._released.append(self._handle)
