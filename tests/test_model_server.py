"""What the server puts together, as far as it can be seen without starting it."""

from __future__ import annotations

from pyserving.model_server import ModelServer
from pyserving.options import Options
from pyserving.types import ManagerState, ServableId, ServableState


def test_metrics_hold_no_more_ended_versions_than_are_remembered():
    server = ModelServer(Options(model_base_path="/models/m"))
    for version in range(1, 1001):
        for state in ManagerState:
            server.monitor.publish(ServableState(ServableId("m", version), state))
    shown = [line for line in server.metrics.model_version_state.lines() if "{" in line]
    assert shown == [
        f':pyserving:model_version_state{{model="m",version="{version}"}} 50'
        for version in sorted(range(991, 1001), key=str)
    ]
