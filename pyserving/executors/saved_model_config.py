"""What a version says of its own session, in `assets.extra/saved_model_config.pb`. As saved_model_config_util.cc."""

from __future__ import annotations

import base64
import logging

from google.protobuf.message import DecodeError

from pyserving import protos
from pyserving.errors import Internal, NotFound, ServingError
from pyserving.executors.version_folder import read_file

_log = logging.getLogger(__name__)

FILE = "assets.extra/saved_model_config.pb"
_REWRITERS = (
    ("remote_op_remap_config", "remote_op_config_rewrite", "remote_op_rewrite_config"),
    ("batch_op_rewriter_config", "batch_op_rewriter", "batch_op_rewrite_config"),
)
"""A field of SessionOverrides, the graph optimizer that it is for, and the parameter that hands it over."""


def session_config(path: str, config: bytes) -> bytes:
    """`config`, a serialized tensorflow.ConfigProto, with what the version folder `path` puts over it.

    A file that cannot be read or parsed is told in the log, and changes nothing.
    """
    try:
        overrides = _session_overrides(path)
    except ServingError as error:
        _log.error("Failed to load saved model config: %s", error.status)
        return config
    return config if overrides is None else _overridden(path, config, overrides)


def _session_overrides(path: str) -> protos.SessionOverrides | None:
    try:
        content = read_file(path, FILE)
    except NotFound:
        return None
    _log.info("Loading model config from %s/%s", path, FILE)
    try:
        found = protos.SavedModelConfig.FromString(content)
    except DecodeError:
        raise Internal(f"Unable to parse SavedModelConfig: {path}/{FILE}") from None
    return found.session_overrides if found.HasField("session_overrides") else None


def _overridden(path: str, config: bytes, overrides: protos.SessionOverrides) -> bytes:
    session = protos.ConfigProto.FromString(config)
    rewriting = session.graph_options.rewrite_options
    for field, optimizer, parameter in _REWRITERS:
        if overrides.HasField(field):
            value = base64.b64encode(getattr(overrides, field).SerializeToString())
            _set_parameter(rewriting, optimizer, parameter, value)
            _log.warning(
                "%s/%s: %s is for the graph optimizer %s. TensorFlow's Python package is without it, so this changes "
                "nothing unless a library of --custom_op_libraries brings it",
                *(path, FILE, field, optimizer),
            )
    rewriting.disable_meta_optimizer = overrides.disable_meta_optimizer
    return session.SerializeToString()


def _set_parameter(rewriting: protos.RewriterConfig, optimizer: str, parameter: str, value: bytes) -> None:
    known = (custom for custom in rewriting.custom_optimizers if custom.name == optimizer)
    custom = next(known, None) or rewriting.custom_optimizers.add(name=optimizer)
    custom.parameter_map[parameter].s = value
