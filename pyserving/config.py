"""Text-format files and flags become the protos that say what is served, and how."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from google.protobuf import text_encoding, text_format
from google.protobuf.message import DecodeError, Message

from pyserving import protos
from pyserving.batching.parameters import QueueOptions, queue_options
from pyserving.errors import (
    FailedPrecondition,
    Internal,
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


def parse_text_proto(content: bytes, path: str, message_class: type[_Message], *, is_secret: bool = False) -> _Message:
    """The message that a file's `content` spells; INVALID_ARGUMENT as `read_text_proto` has it.

    Of one that `is_secret`, the log has the place of an error and nothing of what stands there.
    """
    message = message_class()
    try:
        text_format.Parse(content.decode(), message, descriptor_pool=protos.pool)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        # Scripts look for this line, which protobuf's C++ library writes.
        place, reason = _place_and_reason(error)
        shown = "what stands there is not shown, as it may be a key" if is_secret else reason
        _log.error("Error parsing text-format %s: %s: %s", message.DESCRIPTOR.full_name, place, shown)
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


def _place_and_reason(error: text_format.ParseError | UnicodeDecodeError) -> tuple[str, str]:
    if isinstance(error, UnicodeDecodeError):
        return "1:1", f"not UTF-8 at byte {error.start}"
    # The message begins with the place as well, in a form of its own, and quotes the whole line.
    reason = re.sub(r"^\d+:\d+ : ", "", str(error))
    return f"{error.GetLine() or 1}:{error.GetColumn() or 1}", reason


def unpacked(any_config: protos.Any, registered: Collection[str]) -> Message:
    """What an Any holds, of one of the message types `registered` by their full names.

    Raises InvalidArgument and Internal with the sentences of class_registration.h.
    """
    url = any_config.type_url
    _, slash, full_name = url.rpartition("/")
    if not slash or not full_name:
        raise InvalidArgument(f"Supplied config's type_url could not be parsed: {url}")
    try:
        message = protos.message_class(full_name)()
    except KeyError:
        raise Internal(f"Unable to find compiled-in proto descriptor of type {full_name}") from None
    try:
        message.ParseFromString(any_config.value)
    except DecodeError:
        value = text_encoding.CEscape(any_config.value, False)
        raise InvalidArgument(f'Malformed content of Any: type_url: "{url}"\nvalue: "{value}"\n') from None
    if full_name not in registered:
        text = text_format.MessageToString(message, descriptor_pool=protos.pool)
        raise InvalidArgument(f"Couldn't find factory for config proto message type {full_name}\nconfig={text}")
    return message


def check_thread_pool_factory(options: Options) -> None:
    """Raises what a --thread_pool_factory_config_file ends the start with: no factory is registered, as there."""
    if path := options.thread_pool_factory_config_file:
        unpacked(read_text_proto(path, protos.ThreadPoolFactoryConfig).thread_pool_factory_config, ())


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
