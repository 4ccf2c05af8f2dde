from __future__ import annotations

import math

from pyserving.transports.http2 import channel_arguments as arguments
from pyserving.transports.http2.limits import Limits


def test_arguments_become_limits_in_bytes_and_seconds(caplog):
    changed = arguments.limits(
        [
            ("grpc.max_receive_message_length", 10),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", 7),
            ("grpc.keepalive_time_ms", 1500),
            ("grpc.keepalive_timeout_ms", 250),
            ("grpc.max_connection_age_ms", 2_147_483_647),
            ("grpc.max_connection_age_grace_ms", 5000),
            ("grpc.max_connection_idle_ms", 60_000),
        ],
        Limits(),
    )
    assert changed == Limits(
        max_receive_message=10,
        max_send_message=math.inf,
        max_concurrent_streams=7,
        keepalive_time=1.5,
        keepalive_timeout=0.25,
        max_connection_age=math.inf,
        max_connection_age_grace=5.0,
        max_connection_idle=60.0,
    )
    assert not caplog.records


def test_one_warning_names_all_that_change_nothing(caplog):
    given = [("grpc.lb_policy_name", "grpclb"), ("grpc.so_reuseport", 1), ("grpc.max_concurrent_streams", "many")]
    assert arguments.limits(given, Limits()) == Limits()
    assert len(caplog.records) == 1
    assert "grpc.lb_policy_name=grpclb, grpc.max_concurrent_streams=many" in caplog.text
    assert "reuseport" not in caplog.text


def test_ports_are_not_shared_unless_that_is_asked_for():
    assert not arguments.flag([], arguments.REUSE_PORT)
    assert arguments.flag([("grpc.so_reuseport", 1)], arguments.REUSE_PORT)
    assert arguments.flag([], arguments.REUSE_ADDRESS)
    assert not arguments.flag([("grpc.so_reuseaddr", 0)], arguments.REUSE_ADDRESS)
