from __future__ import annotations

from dataclasses import replace

import pytest

from pyserving.transports.http2.limits import Allowance, Limits
from pyserving.transports.http2.patience import Patience, Verdict

LIMITS = Limits(
    handshake_timeout=10,
    stall_timeout=50,
    linger=2,
    keepalive_time=1000,
    keepalive_timeout=20,
)


class Watched:
    def __init__(self, limits=LIMITS, greeted=True):
        self.patience = Patience(limits, 0.0)
        self.patience.has_greeted = greeted

    def at(self, now, *, has_streams=False, is_mid_frame=False, taken=None):
        return self.patience.verdict(now, has_streams=has_streams, is_mid_frame=is_mid_frame, taken=taken)


def test_who_does_not_greet_in_time_is_cut_off():
    watched = Watched(greeted=False)
    assert watched.at(9) is Verdict.PATIENT
    assert watched.at(10) is Verdict.ABORT


def test_an_idle_connection_may_stay():
    assert Watched().at(999) is Verdict.PATIENT


def test_a_frame_that_stands_still_ends_the_connection():
    watched = Watched()
    watched.patience.heard_at = 30
    assert watched.at(79, is_mid_frame=True) is Verdict.PATIENT
    assert watched.at(80, is_mid_frame=True) is Verdict.ABORT


def test_a_peer_that_reads_may_be_slow():
    watched = Watched()
    assert [watched.at(40 * n, taken=n) for n in range(10)] == [Verdict.PATIENT] * 10


def test_a_peer_that_does_not_read_ends_the_connection():
    watched = Watched()
    assert [watched.at(now, taken=7) for now in (100, 149, 150)] == [Verdict.PATIENT, Verdict.PATIENT, Verdict.ABORT]


def test_a_silent_peer_is_pinged_and_given_up_when_it_stays_silent():
    watched = Watched()
    assert watched.at(1000) is Verdict.PING
    assert watched.at(1019) is Verdict.PATIENT
    assert watched.at(1020) is Verdict.ABORT


def test_a_peer_that_answers_the_ping_stays():
    watched = Watched()
    assert watched.at(1000) is Verdict.PING
    watched.patience.heard_at = 1001
    assert watched.at(1020) is Verdict.PATIENT
    assert watched.at(2001) is Verdict.PING


def test_who_was_told_of_an_error_has_a_moment_to_read_it():
    watched = Watched()
    watched.patience.leaving_since = 5
    assert watched.at(6) is Verdict.PATIENT
    assert watched.at(7, taken=1) is Verdict.PATIENT
    assert watched.at(7) is Verdict.ABORT


def test_who_was_told_of_an_error_is_asked_nothing_more():
    watched = Watched(replace(LIMITS, keepalive_time=1, max_connection_age=1))
    watched.patience.leaving_since = 5
    assert watched.at(6.5) is Verdict.PATIENT
    assert watched.at(6.9, taken=1) is Verdict.PATIENT


def test_an_old_connection_retires_and_is_cut_off_after_its_grace():
    watched = Watched(replace(LIMITS, max_connection_age=100, max_connection_age_grace=30))
    assert watched.at(89, has_streams=True) is Verdict.PATIENT
    assert watched.at(110.1, has_streams=True) is Verdict.RETIRE
    assert watched.at(115, has_streams=True) is Verdict.PATIENT
    assert watched.at(141, has_streams=True) is Verdict.CUT_OFF


def test_connections_of_one_moment_do_not_age_alike():
    limits = replace(LIMITS, max_connection_age=100)
    verdicts = {Watched(limits).at(100) for _ in range(100)}
    assert verdicts == {Verdict.PATIENT, Verdict.RETIRE}


def test_an_idle_connection_retires_when_that_is_wanted():
    watched = Watched(replace(LIMITS, max_connection_idle=60))
    assert watched.at(50, has_streams=True) is Verdict.PATIENT
    assert watched.at(109) is Verdict.PATIENT
    assert watched.at(110) is Verdict.RETIRE


@pytest.mark.parametrize("shortest", [0.1, 2.0, 7200.0])
def test_the_clock_is_looked_at_often_enough(shortest):
    limits = replace(LIMITS, handshake_timeout=8e3, stall_timeout=8e3, linger=8e3, keepalive_timeout=8e3)
    limits = replace(limits, keepalive_time=shortest)
    assert limits.tick == pytest.approx(shortest / 4)


def test_an_allowance_is_spent_and_comes_back():
    allowance = Allowance(3, 2.0, 0.0)
    assert [allowance.spend(0.0) for _ in range(4)] == [True, True, True, False]
    allowance = Allowance(3, 2.0, 0.0)
    assert all(allowance.spend(now / 2) for now in range(1000))
    assert [allowance.spend(500.0) for _ in range(4)] == [True, True, True, False]
