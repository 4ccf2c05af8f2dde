"""When runs may be made on the event loop, by numbers: a slow one costs the licence, and each loss weighs more."""

from __future__ import annotations

import random

import pytest

from pyserving.executors.loop_licence import (
    LONG_MICROS,
    SHORT_MICROS,
    SHORT_MICROS_IN_THREAD,
    VERY_LONG_MICROS,
    LoopLicence,
)

SHORT, LENGTHY, LONG, VERY_LONG = 20.0, 400.0, 2_000.0, 30_000.0


def licensed(*, is_possible: bool = True) -> LoopLicence:
    licence = LoopLicence(is_possible=is_possible)
    for _ in range(LoopLicence.RUNS):
        licence.ran_in_thread(SHORT, SHORT)
    return licence


def runs_until_held(licence: LoopLicence, most: int = 50_000) -> int:
    """Short runs in a thread that it takes."""
    for runs in range(most):
        if licence.is_held:
            return runs
        licence.ran_in_thread(SHORT, SHORT)
    raise AssertionError("never held")


def test_limits_are_in_order():
    assert SHORT < SHORT_MICROS < SHORT_MICROS_IN_THREAD < LENGTHY < LONG_MICROS < LONG < VERY_LONG_MICROS < VERY_LONG


def test_it_is_given_for_short_runs_in_a_row():
    licence = LoopLicence()
    assert runs_until_held(licence) == LoopLicence.RUNS


def test_a_run_that_is_not_short_makes_the_row_begin_again():
    licence = LoopLicence()
    for _ in range(LoopLicence.RUNS - 1):
        licence.ran_in_thread(SHORT, SHORT)
    licence.ran_in_thread(LENGTHY, LENGTHY)
    assert runs_until_held(licence) == LoopLicence.RUNS


def test_runs_that_others_held_up_are_short_by_their_own_work():
    licence = LoopLicence()
    for _ in range(LoopLicence.RUNS - 1):
        licence.ran_in_thread(LONG, SHORT)
    licence.ran_in_thread(SHORT, SHORT)
    assert licence.is_held


def test_runs_that_all_wait_for_something_are_not_for_the_loop():
    licence = LoopLicence()
    for _ in range(1000):
        licence.ran_in_thread(LONG, SHORT)
    assert not licence.is_held


def test_it_is_never_held_where_it_is_not_possible():
    assert not licensed(is_possible=False).is_held


def test_short_runs_on_the_loop_keep_it():
    licence = licensed()
    for _ in range(10_000):
        licence.ran_on_loop(SHORT, SHORT)
    assert licence.is_held


@pytest.mark.parametrize("micros", [LONG_MICROS, LONG, VERY_LONG])
def test_the_first_long_run_withdraws_it(micros):
    licence = licensed()
    licence.ran_on_loop(micros, micros)
    assert not licence.is_held


def test_lengthy_runs_in_a_row_withdraw_it():
    licence = licensed()
    for _ in range(LoopLicence.RUNS - 1):
        licence.ran_on_loop(LENGTHY, LENGTHY)
        assert licence.is_held
    licence.ran_on_loop(LENGTHY, LENGTHY)
    assert not licence.is_held


def test_lengthy_runs_now_and_then_do_not():
    licence = licensed()
    for _ in range(1000):
        licence.ran_on_loop(LENGTHY, LENGTHY)
        licence.ran_on_loop(SHORT, SHORT)
    assert licence.is_held


def test_a_run_that_was_scheduled_out_is_excused_once():
    licence = licensed()
    licence.ran_on_loop(LONG, SHORT)
    assert licence.is_held
    licence.ran_on_loop(LONG, SHORT)
    assert not licence.is_held


def test_runs_that_are_scheduled_out_rarely_are_all_excused():
    licence = licensed()
    for _ in range(100):
        licence.ran_on_loop(LONG, SHORT)
        for _ in range(LoopLicence.EXCUSED_AFTER):
            licence.ran_on_loop(SHORT, SHORT)
    assert licence.is_held


def test_each_withdrawal_makes_it_eight_times_as_hard_to_get_back_up_to_a_limit():
    licence = LoopLicence()
    needed = []
    for _ in range(LoopLicence.HARDEST + 2):
        needed.append(runs_until_held(licence))
        licence.ran_on_loop(LONG, LONG)
    assert needed == [5, 40, 320, 2560, 20480, 20480]


def test_a_very_long_run_weighs_as_two():
    licence = licensed()
    licence.ran_on_loop(VERY_LONG, VERY_LONG)
    assert runs_until_held(licence) == LoopLicence.RUNS * LoopLicence.HARDER**2


def test_many_runs_make_up_for_a_withdrawal():
    licence = licensed()
    licence.ran_on_loop(LONG, LONG)
    assert runs_until_held(licence) == 40
    for _ in range(LoopLicence.FORGIVEN_AFTER):
        licence.ran_on_loop(SHORT, SHORT)
    licence.ran_on_loop(LONG, LONG)
    assert runs_until_held(licence) == 40


def test_runs_in_a_thread_that_end_after_it_was_given_change_nothing():
    licence = licensed()
    licence.ran_in_thread(VERY_LONG, VERY_LONG)
    assert licence.is_held


@pytest.mark.parametrize("seed", range(20))
def test_a_model_that_is_slow_at_random_blocks_the_loop_for_few_of_its_runs(seed):
    """One run in a hundred takes 10 ms: of the first 50,000 runs, how many of those are on the loop?"""
    chance = random.Random(seed)
    licence = LoopLicence()
    blocked = 0
    for _ in range(50_000):
        micros = 10_000.0 if chance.random() < 0.01 else SHORT
        if licence.is_held:
            blocked += micros > LONG_MICROS
            licence.ran_on_loop(micros, micros)
        else:
            licence.ran_in_thread(micros, micros)
    assert blocked <= LoopLicence.HARDEST + 3
