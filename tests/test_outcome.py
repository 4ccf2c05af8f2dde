"""A model's fate follows from its versions' states."""

from __future__ import annotations

import pytest

from pyserving.errors import NotFound, ServingError
from pyserving.outcome import Fate, Outcome, failure_text, outcome_of
from pyserving.types import ManagerState, ServableId, ServableState

BROKEN = NotFound("no graph")


def state(version: int, manager_state: ManagerState, health: ServingError | None = None) -> ServableState:
    return ServableState(ServableId("m", version), manager_state, health)


@pytest.mark.parametrize(
    ("states", "aspired", "settling", "fate"),
    [
        ([], [], False, Fate.EMPTY),
        ([], [], True, Fate.PENDING),
        ([], [1], False, Fate.PENDING),
        ([state(1, ManagerState.START)], [1], False, Fate.PENDING),
        ([state(1, ManagerState.LOADING)], [1], False, Fate.PENDING),
        ([state(1, ManagerState.LOADING, BROKEN)], [1], False, Fate.FAILED),
        ([state(1, ManagerState.END, BROKEN)], [1], False, Fate.FAILED),
        ([state(1, ManagerState.END, BROKEN)], [], False, Fate.EMPTY),
        ([state(2, ManagerState.LOADING, BROKEN), state(1, ManagerState.LOADING)], [1, 2], False, Fate.PENDING),
        ([state(2, ManagerState.LOADING, BROKEN), state(1, ManagerState.AVAILABLE)], [2], False, Fate.AVAILABLE),
        ([state(1, ManagerState.UNLOADING)], [1], False, Fate.PENDING),
        ([state(1, ManagerState.END)], [], False, Fate.EMPTY),
    ],
)
def test_fate(states: list[ServableState], aspired: list[int], settling: bool, fate: Fate) -> None:
    assert outcome_of("m", states, aspired, is_settling=settling).fate is fate


def test_a_failed_model_is_not_settled_while_another_version_is_being_written() -> None:
    failed = [state(1, ManagerState.END, BROKEN)]
    assert outcome_of("m", failed, [1]).is_settled
    expecting = outcome_of("m", failed, [1], is_settling=True)
    assert (expecting.fate, expecting.error, expecting.is_settled) == (Fate.FAILED, BROKEN, False)


def test_an_empty_model_tells_the_listing_problem() -> None:
    outcome = outcome_of("m", [], [], problem="Could not find base path /x for servable m")
    assert str(outcome.error) == "Could not find base path /x for servable m"
    assert outcome.is_settled


def test_the_failure_sentence_is_tensorflow_servings() -> None:
    outcomes = [Outcome("m", Fate.FAILED, 3, BROKEN), Outcome("n", Fate.FAILED, 1, BROKEN)]
    assert failure_text(outcomes, "servable") == (
        "2 servable(s) did not become available: "
        "{{{name: m version: 3} due to error: NOT_FOUND: no graph}, "
        "{{name: n version: 1} due to error: NOT_FOUND: no graph}, }"
    )
