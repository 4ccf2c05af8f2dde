"""Both ways into TensorFlow, for tests that must pass with either."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["c", "python"])
def session_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """`open_saved_model` opens sessions of this kind."""
    from pyserving.executors import c_session

    if request.param == "python":
        monkeypatch.setattr(c_session, "is_available", lambda: False)
    return str(request.param)
