"""gRPC's channel arguments that mean something here, as limits."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pyserving.transports.http2.limits import Limits

_log = logging.getLogger(__name__)
_UNLIMITED_MILLIS = (1 << 31) - 1


def _bytes(value: int) -> float:
    return math.inf if value < 0 else value


def _seconds(millis: int) -> float:
    return math.inf if millis >= _UNLIMITED_MILLIS else max(millis, 1) / 1000


def _count(value: int) -> int:
    return max(value, 1)


_FIELDS: Mapping[str, tuple[str, Callable[[int], float]]] = {
    "grpc.max_receive_message_length": ("max_receive_message", _bytes),
    "grpc.max_send_message_length": ("max_send_message", _bytes),
    "grpc.max_concurrent_streams": ("max_concurrent_streams", _count),
    "grpc.keepalive_time_ms": ("keepalive_time", _seconds),
    "grpc.keepalive_timeout_ms": ("keepalive_timeout", _seconds),
    "grpc.max_connection_age_ms": ("max_connection_age", _seconds),
    "grpc.max_connection_age_grace_ms": ("max_connection_age_grace", _seconds),
    "grpc.max_connection_idle_ms": ("max_connection_idle", _seconds),
}
REUSE_PORT = "grpc.so_reuseport"
REUSE_ADDRESS = "grpc.so_reuseaddr"
_FLAGS = {REUSE_PORT: False, REUSE_ADDRESS: True}


def limits(arguments: Sequence[tuple[str, int | str]], defaults: Limits) -> Limits:
    """`defaults`, changed by the arguments; a warning names those that change nothing."""
    changes: dict[str, float] = {}
    ignored = []
    for key, value in arguments:
        if key in _FIELDS and isinstance(value, int):
            name, read = _FIELDS[key]
            changes[name] = read(value)
        elif key not in _FLAGS or not isinstance(value, int):
            ignored.append(f"{key}={value}")
    if ignored:
        _log.warning("gRPC channel arguments that change nothing here: %s", ", ".join(ignored))
    return replace(defaults, **changes)  # type: ignore[arg-type]  # each function gives what its field takes


def flag(arguments: Sequence[tuple[str, int | str]], key: str) -> bool:
    """REUSE_PORT, off unless it is asked for, or REUSE_ADDRESS, on unless it is not wanted."""
    return bool(dict(arguments).get(key, _FLAGS[key]))
