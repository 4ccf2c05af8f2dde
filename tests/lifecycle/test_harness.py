"""The transition table of one version."""

from __future__ import annotations

import pytest

from pyserving.lifecycle.harness import LoaderHarness, State
from pyserving.types import AspiredVersion, ServableId
from tests.fakes import FakeLoader


def harness() -> LoaderHarness:
    aspired = AspiredVersion(ServableId("m", 1), "/m/1")
    return LoaderHarness(aspired, FakeLoader(aspired))


def test_a_life_goes_from_new_to_disabled() -> None:
    version = harness()
    for state in (State.LOADING, State.READY, State.QUIESCING, State.UNLOADING, State.DISABLED):
        version.become(state)
    assert version.state is State.DISABLED


@pytest.mark.parametrize("state", [State.NEW, State.READY, State.QUIESCING, State.UNLOADING, State.DISABLED])
def test_an_absent_transition_is_a_bug_and_raises(state: State) -> None:
    version = harness()
    with pytest.raises(RuntimeError, match=f"cannot go from NEW to {state.name}"):
        version.become(state)
    assert version.state is State.NEW
