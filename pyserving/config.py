"""Text-format files and flags become the protos that say what is served, and how."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message

from pyserving import protos
from pyserving.batching.parameters import (
    POOL_NAME_WITHOUT_FILE,
    PoolOptions,
    QueueOptions,
    pool_options,
    queue_options,
)
from pyserving.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServingError,
    Unknown,
)
from pyserving.model_config import TENSORFLOW_PLATFORM
from pyserving.options import Options

_log = logging.getLogger(__name__)
_Message = TypeVar("_Message", bound=Message)

BATCHING_PARAMETERS_FILE = "batching_params.pbtxt"
"""In a version folder."""
DEFAULT_MONITORING_PATH = "/monitoring/prometheus/metrics"


def read_text_proto(path: str, message_class: type[_Message]) -> _Message:
    """The message in a text-format file. Whitespace and comments alone make the default message.

    NOT_FOUND and INVALID_ARGUMENT with the sentences of TensorFlow's file system and of proto_util.h.
    """
    return parse_text_proto(read_file(path), path, message_class)


def parse_text_proto(content: bytes, path: str, message_class: type[_Message]) -> _Message:
    """The message that a file's `content` spells; INVALID_ARGUMENT as `read_text_proto` has it."""
    message = message_class()
    try:
        text_format.Parse(content.decode(), message, descriptor_pool=protos.pool)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        # Scripts look for this line, which protobuf's C++ library writes.
        _log.error("Error parsing text-format %s: %s", message.DESCRIPTOR.full_name, _place_and_reason(error))
        raise InvalidArgument(f"Invalid protobuf file: '{path}'") from None
    return message


def read_file(path: str) -> bytes:
    """What is in a file. An empty one is an error, as one that cannot be read."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise _file_error(error, path) from None
    if not content:  # TensorFlow maps files into memory, which fails for a length of zero
        raise InvalidArgument(f"{path}; Invalid argument")
    return content


def _file_error(error: OSError, path: str) -> ServingError:
    sentence = f"{path}; {error.strerror}"
    if isinstance(error, FileNotFoundError):
        return NotFound(sentence)
    if isinstance(error, PermissionError):
        return PermissionDenied(sentence)
    if isinstance(error, IsADirectoryError | NotADirectoryError):
        return FailedPrecondition(sentence)
    return Unknown(sentence)


def _place_and_reason(error: text_format.ParseError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"1:1: not UTF-8 at byte {error.start}"
    # The message begins with the place as well, in a form of its own.
    reason = re.sub(r"^\d+:\d+ : ", "", str(error))
    return f"{error.GetLine() or 1}:{error.GetColumn() or 1}: {reason}"


def model_server_config(options: Options) -> protos.ModelServerConfig:
    """What `--model_config_file` lists, or else the one model of `--model_name` and `--model_base_path`."""
    if options.model_config_file:
        return read_text_proto(options.model_config_file, protos.ModelServerConfig)
    _log.info(
        "Building single TensorFlow model file config:  model_name: %s model_base_path: %s",
        options.model_name,
        options.model_base_path,
    )
    config = protos.ModelServerConfig()
    config.model_config_list.config.add(
        name=options.model_name, base_path=options.model_base_path, model_platform=TENSORFLOW_PLATFORM
    )
    return config


def monitoring_path(options: Options) -> str | None:
    """Where on the HTTP port the metrics page is; None: nowhere.

    Without a `--monitoring_config_file` it is at the usual path; a file decides for itself.
    """
    if not options.monitoring_config_file:
        return DEFAULT_MONITORING_PATH
    prometheus = read_text_proto(options.monitoring_config_file, protos.MonitoringConfig).prometheus_config
    return (prometheus.path or DEFAULT_MONITORING_PATH) if prometheus.enable else None


def session_config(options: Options) -> bytes:
    """A serialized tensorflow.ConfigProto for every session: the config file's, with what flags decide put over it."""
    config = protos.ConfigProto()
    if options.tensorflow_session_config_file:
        config = read_text_proto(options.tensorflow_session_config_file, protos.ConfigProto)
    intra, inter = _parallelism(options)
    try:
        config.intra_op_parallelism_threads, config.inter_op_parallelism_threads = intra, inter
    except ValueError:  # the flags have 64 bits, the fields 32
        raise InvalidArgument(f"Too many threads for a session: {intra} within an op, {inter} between ops") from None
    config.gpu_options.per_process_gpu_memory_fraction = options.per_process_gpu_memory_fraction
    if not options.per_process_gpu_memory_fraction:
        config.gpu_options.allow_growth = True
    return config.SerializeToString()


@dataclass(frozen=True, slots=True)
class Batching:
    """What the batching flags come to."""

    pool: PoolOptions
    queue: QueueOptions | None
    """For every version; None: each brings its own or is not batched."""


def batching(options: Options, cpus: int) -> Batching | None:
    """None: no batching. Raises InvalidArgument for parameters that cannot be, as well as for a bad file."""
    if not options.enable_batching:
        return None
    if not options.batching_parameters_file:
        pool = PoolOptions(POOL_NAME_WITHOUT_FILE, cpus)
        return Batching(pool, None if options.enable_per_model_batching_parameters else QueueOptions())
    parameters = read_text_proto(options.batching_parameters_file, protos.BatchingParameters)
    pool = pool_options(parameters, cpus)
    return Batching(pool, None if options.enable_per_model_batching_parameters else queue_options(parameters))


def version_queue_options(path: str, read: Callable[[str], bytes | None]) -> QueueOptions | None:
    """What the version folder `path` says of its batches; None when it says nothing. Raises as a parameters file does.

    `read(path)` gives what is in a file, None where there is none.
    """
    file = f"{path}/{BATCHING_PARAMETERS_FILE}"
    content = read(file)
    if content is None:
        return None
    if not content:
        raise InvalidArgument(f"{file}; Invalid argument")
    return queue_options(parse_text_proto(content, file, protos.BatchingParameters))


def model_warmup_options(options: Options) -> protos.ModelWarmupOptions:
    """How warm-up files are replayed."""
    warmup_options = protos.ModelWarmupOptions()
    if options.num_request_iterations_for_warmup > 0:
        warmup_options.num_request_iterations.value = options.num_request_iterations_for_warmup
    return warmup_options


def _parallelism(options: Options) -> tuple[int, int]:
    """Threads within an op and between ops; 0: TensorFlow chooses."""
    intra, inter = options.tensorflow_intra_op_parallelism, options.tensorflow_inter_op_parallelism
    if intra > 0 or inter > 0:
        return intra, inter
    return options.tensorflow_session_parallelism, options.tensorflow_session_parallelism
