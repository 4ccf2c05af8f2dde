"""When a base path is due. What a lookout does when it is, test_file_system.py tells."""

from __future__ import annotations

import pytest

from pyserving.sources.lookout import Pace


@pytest.mark.parametrize(("failures", "wait"), [(0, 60), (1, 120), (2, 240), (3, 480), (9, 480)])
def test_a_poll_that_backs_off_waits_twice_as_long_after_each_problem(failures: int, wait: float) -> None:
    assert Pace(60, 10, backs_off=True).next_scan(1000.0, failures, None) == 1000.0 + wait
    assert Pace(60, 10).next_scan(1000.0, failures, None) == 1060.0


@pytest.mark.parametrize("poll_wait_seconds", [0, -1])
def test_without_a_poll_only_what_is_waited_for_is_looked_at(poll_wait_seconds: float) -> None:
    pace = Pace(poll_wait_seconds, 10)
    assert pace.next_scan(1000.0, 0, None) is None
    assert pace.next_scan(1000.0, 0, 1000.5) == 1000.5


def test_what_is_waited_for_is_looked_at_before_the_poll_but_not_too_soon() -> None:
    assert Pace(60, 10).next_scan(1000.0, 0, 1005.0) == 1005.0
    assert Pace(60, 10, least_wait_seconds=20).next_scan(1000.0, 0, 1005.0) == 1020.0
    assert Pace(60, 10, least_wait_seconds=20).next_scan(1000.0, 0, 1090.0) == 1060.0
