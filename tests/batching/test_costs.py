"""What is learnt of run times: which size pays, and how long a run will take at most."""

from __future__ import annotations

import pytest

from pyserving.batching.costs import RunCosts


def learnt(*runs: tuple[int, float], times: int = 3) -> RunCosts:
    costs = RunCosts()
    for rows, seconds in runs:
        for _ in range(times):
            costs.record(rows, seconds)
    return costs


def test_nothing_is_known_in_the_beginning():
    costs = RunCosts()
    assert costs.estimate(5) == 0.0
    assert costs.best_size(5) == 5


@pytest.mark.parametrize(("rows", "seconds"), [(1, 0.1), (2, 0.1), (3, 0.15), (4, 0.2), (8, 0.4)])
def test_estimates_lie_between_those_of_known_sizes(rows, seconds):
    assert learnt((2, 0.1), (4, 0.2)).estimate(rows) == pytest.approx(seconds)


def test_estimate_reckons_with_what_happens_now_and_then_but_not_with_the_worst():
    costs = learnt((1, 0.1), times=8)
    costs.record(1, 5.0)
    assert costs.estimate(1) == pytest.approx(0.1)
    costs.record(1, 0.2)
    assert costs.estimate(1) == pytest.approx(0.2)


def test_all_run_together_where_that_is_done_soonest():
    costs = learnt((1, 0.1), (2, 0.11), (4, 0.12), (8, 0.13))
    assert costs.best_size(8) == 8


def test_rows_are_divided_among_threads_where_that_is_done_soonest():
    costs = learnt((1, 0.1), (2, 0.2), (3, 0.3), (6, 0.6))
    assert costs.best_size(6, threads=2) == 3


def test_all_run_in_one_thread_where_that_does_more_than_all_threads_do_apart():
    costs = learnt((1, 0.1), (2, 0.1), (3, 0.1), (6, 0.25))
    assert costs.best_size(6, threads=2) == 3
    costs = learnt((1, 0.1), (2, 0.1), (4, 0.1), (8, 0.09))
    assert costs.best_size(8, threads=2) == 8


def test_share_counts_what_runs_already():
    costs = learnt((1, 0.1), (2, 0.15), (4, 0.25), (8, 0.45), (16, 0.9))
    assert costs.best_size(8, threads=2, running=8) == 8
    assert costs.best_size(15, threads=2, running=1) == 8


def test_size_is_that_of_the_run():
    costs = learnt((4, 0.1), (8, 0.9))
    assert costs.best_size(5, run_size=lambda rows: 4 if rows <= 4 else 8) in (4, 2, 1)


def test_what_was_found_wanting_is_tried_again_now_and_then():
    costs = learnt((1, 0.01), (2, 0.1), (4, 0.2))
    sizes = [costs.best_size(4) for _ in range(4 * RunCosts.CHOICES_BETWEEN_TRIALS)]
    assert max(sizes, key=sizes.count) == 1
    assert {1, 2, 4} == set(sizes)


def test_missed_deadline_is_a_sign_for_a_while():
    costs = RunCosts()
    assert not costs.is_pressed(10.0)
    costs.missed_deadline(10.0)
    assert costs.is_pressed(10.5)
    assert not costs.is_pressed(12.0)
