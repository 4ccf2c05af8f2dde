"""The two transition policies, row by row."""

from __future__ import annotations

import pytest

from pyserving.lifecycle.harness import State
from pyserving.lifecycle.policy import (
    Load,
    Policy,
    Unload,
    VersionSnapshot,
    availability_preserving,
    resource_preserving,
)

_LETTERS = {
    "n": State.NEW,
    "l": State.LOADING,
    "r": State.READY,
    "q": State.QUIESCING,
    "u": State.UNLOADING,
    "d": State.DISABLED,
    "e": State.ERROR,
}


def snapshots(text: str) -> list[VersionSnapshot]:
    """`1r 2N`: version 1 is READY and no longer aspired, version 2 is NEW and aspired (a capital)."""
    return [VersionSnapshot(int(v[:-1]), _LETTERS[v[-1].lower()], v[-1].isupper()) for v in text.split()]


@pytest.mark.parametrize(
    ("versions", "action"),
    [
        # Nothing to do.
        ("", None),
        ("1R", None),
        ("1L", None),
        ("1E", None),
        ("1R 2R 3R", None),
        # Loading goes from the highest number down.
        ("1N", Load(1)),
        ("1N 2N 3N", Load(3)),
        ("1N 2N 3L", Load(2)),
        ("1N 2N 3E", Load(2)),
        ("-1N 0N", Load(0)),
        # A new version loads beside the old one, which stays until it is there.
        ("1r 2N", Load(2)),
        ("1r 2L", None),
        ("1r 2R", Unload(1)),
        ("1r 2E", None),
        # The same back to a smaller number.
        ("1N 2r", Load(1)),
        ("1L 2r", None),
        ("1R 2r", Unload(2)),
        ("1E 2r", None),
        # One ready aspired version covers; the others still load, after the old ones are sent away.
        ("1r 2R 3N", Unload(1)),
        ("1r 2r 3R", Unload(1)),
        ("1q 2R 3N", Load(3)),
        # Of several old ones all but the highest go at once.
        ("1r 2r 3N", Unload(1)),
        ("1r 2r 3L", Unload(1)),
        ("1r 2r 3E", Unload(1)),
        ("1q 2r 3L", None),
        # Nothing aspired: all go, lowest first.
        ("1r", Unload(1)),
        ("1r 2r 3r", Unload(1)),
        ("1u 2r 3r", Unload(2)),
        ("3r 2r", Unload(2)),
        # What is not ready cannot be unloaded; what is not aspired is not loaded.
        ("1n", None),
        ("1l", None),
        ("1q", None),
        ("1u", None),
        ("1d 2e", None),
    ],
)
def test_availability_preserving(versions: str, action: Load | Unload | None) -> None:
    assert availability_preserving(snapshots(versions)) == action


@pytest.mark.parametrize(
    ("versions", "action"),
    [
        ("", None),
        ("1R", None),
        ("1E", None),
        ("1N 2N", Load(2)),
        ("1N 2L", Load(1)),
        # The old one goes first, whatever that costs.
        ("1r 2N", Unload(1)),
        ("1r 2R", Unload(1)),
        ("1r 2E", Unload(1)),
        ("1r 2r 3N", Unload(1)),
        ("1r", Unload(1)),
        # Nothing loads while anything is on its way out.
        ("1q 2N", None),
        ("1u 2N", None),
        ("1l 2N", None),
        ("1n 2N", None),
        ("1u 2r 3N", Unload(2)),
        ("1d 2N", Load(2)),
        ("1e 2N", Load(2)),
    ],
)
def test_resource_preserving(versions: str, action: Load | Unload | None) -> None:
    assert resource_preserving(snapshots(versions)) == action


@pytest.mark.parametrize("policy", [availability_preserving, resource_preserving])
def test_order_of_the_versions_does_not_matter(policy: Policy) -> None:
    rows = ["1r 2r 3N", "1N 2N 3L", "1r 2R 3N"]
    assert [policy(snapshots(row)) for row in rows] == [policy(snapshots(row)[::-1]) for row in rows]
