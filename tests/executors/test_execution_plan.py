"""Choosing between ways of running, by numbers."""

from __future__ import annotations

import numpy as np
import pytest

from pyserving.errors import InvalidArgument
from pyserving.executors.execution_plan import Choice, ExecutionPlan, rows_bucket
from pyserving.executors.executor import Plan, Way
from pyserving.executors.loop_licence import SHORT_MICROS
from pyserving.signature import DataType

POOL = Way("pool", lambda *arrays: arrays)
CALLER = Way("caller", lambda *arrays: arrays)


def serve(choice: Choice, runs: int, micros: dict[str, float]) -> list[str]:
    """Names of the ways taken by so many runs, each over before the next starts."""
    taken = []
    for _ in range(runs):
        way = choice.next()
        choice.record(way, micros[way.name], cpu_micros=micros[way.name])
        taken.append(way.name)
    return taken


def trial_length(ways: int) -> int:
    return ways * Choice.TIMED_RUNS


def first_trial(choice: Choice, micros: dict[str, float]) -> list[str]:
    return serve(choice, trial_length(2) + 2, micros)


def test_ways_take_turns_until_each_is_timed_then_the_faster_is_kept():
    choice = Choice((POOL, CALLER))
    taken = first_trial(choice, {"pool": 25, "caller": 4})
    assert taken.count("pool") == taken.count("caller") == 1 + Choice.TIMED_RUNS
    assert choice.kept == "caller"
    assert set(serve(choice, 100, {"caller": 4})) == {"caller"}


def test_nothing_is_kept_while_the_first_trial_is_on():
    choice = Choice((POOL, CALLER))
    serve(choice, 3, {"pool": 25, "caller": 4})
    assert choice.kept is None


def test_first_run_of_each_way_does_not_count():
    choice = Choice((POOL, CALLER))
    for way, micros in ((POOL, 1), (CALLER, 1_000_000)):  # what a cold run takes says nothing
        choice.record(way, micros, micros)
    serve(choice, trial_length(2), {"pool": 25, "caller": 4})
    assert choice.kept == "caller"


def test_one_slow_run_does_not_decide():
    choice = Choice((POOL, CALLER))
    serve(choice, 2, {"pool": 25, "caller": 4})
    choice.record(CALLER, 1_000_000, 1_000_000)
    serve(choice, trial_length(2), {"pool": 25, "caller": 4})
    assert choice.kept == "caller"


def test_a_way_that_is_hardly_faster_does_not_take_over():
    choice = Choice((POOL, CALLER))
    first_trial(choice, {"pool": 100, "caller": 97})
    assert choice.kept == "pool"


def test_trial_is_repeated_and_notices_that_times_have_changed():
    choice = Choice((POOL, CALLER))
    first_trial(choice, {"pool": 25, "caller": 4})
    assert set(serve(choice, Choice.RUNS_BETWEEN_TRIALS, {"caller": 4})) == {"caller"}
    taken = serve(choice, trial_length(2), {"pool": 25, "caller": 400})
    assert taken.count("pool") == Choice.TIMED_RUNS
    assert choice.kept == "pool"


def test_runs_that_never_end_well_keep_the_trial_open():
    choice = Choice((POOL, CALLER))
    assert {choice.next().name for _ in range(1000)} == {"pool", "caller"}
    assert choice.kept is None


def test_runs_in_flight_when_a_trial_ends_are_of_no_account():
    choice = Choice((POOL, CALLER))
    first_trial(choice, {"pool": 25, "caller": 4})
    choice.record(POOL, 1, 1)
    assert choice.kept == "caller"


def test_a_single_way_is_kept_from_the_start():
    choice = Choice((POOL,))
    assert choice.kept == "pool"
    assert set(serve(choice, 2 * Choice.RUNS_BETWEEN_TRIALS, {"pool": 25})) == {"pool"}
    assert choice.kept == "pool"


def bounded_choice() -> Choice:
    return Choice((POOL, CALLER), is_bounded=True)


def test_short_runs_keep_the_caller_though_the_pool_is_faster_as_it_is_on_its_way_to_the_loop():
    choice = bounded_choice()
    first_trial(choice, {"pool": 10, "caller": 40})
    assert choice.on_loop is CALLER
    assert choice.kept == "loop"
    choice.record_on_loop(5_000, 5_000)
    assert choice.on_loop is None
    assert choice.kept == "caller"


def test_runs_that_are_not_short_keep_the_faster_way():
    choice = bounded_choice()
    first_trial(choice, {"pool": 400, "caller": 800})
    assert choice.on_loop is None
    assert choice.kept == "pool"


def test_what_may_never_end_keeps_the_faster_way_however_short_it_is():
    choice = Choice((POOL, CALLER))
    first_trial(choice, {"pool": 10, "caller": 40})
    assert choice.on_loop is None
    assert choice.kept == "pool"


def test_what_has_no_way_in_the_callers_thread_is_not_for_the_loop():
    choice = Choice((POOL,), is_bounded=True)
    serve(choice, 1000, {"pool": 10})
    assert choice.on_loop is None


def test_first_run_does_not_count_for_the_loop_either():
    choice = Choice((CALLER,), is_bounded=True)
    choice.record(CALLER, 1_000_000, 1_000_000)
    serve(choice, Choice.TIMED_RUNS - 1, {"caller": 4})
    assert choice.on_loop is None
    serve(choice, 1, {"caller": 4})
    assert choice.on_loop is CALLER


def test_the_loop_is_earned_again_by_more_runs_in_threads():
    choice = bounded_choice()
    first_trial(choice, {"pool": 10, "caller": 40})
    choice.record_on_loop(5_000, 5_000)
    assert set(serve(choice, 39, {"caller": 40})) == {"caller"}
    assert choice.on_loop is None
    serve(choice, 1, {"caller": 40})
    assert choice.on_loop is CALLER


def test_the_next_run_on_the_loop_is_thought_to_take_as_long_as_the_last():
    choice = bounded_choice()
    first_trial(choice, {"pool": 10, "caller": 40})
    assert choice.micros_on_loop == SHORT_MICROS
    choice.record_on_loop(33, 33)
    assert choice.micros_on_loop == 33


@pytest.mark.parametrize(
    ("shape", "bucket"), [((), 0), ((0,), 0), ((1,), 1), ((2, 9), 2), ((3,), 4), ((4,), 4), ((5,), 8), ((1025,), 2048)]
)
def test_rows_are_rounded_up_to_a_power_of_two(shape, bucket):
    assert rows_bucket([np.zeros(shape)]) == bucket


def test_plan_without_inputs_has_the_bucket_of_no_rows():
    assert rows_bucket([]) == 0


def plan(*types: DataType, ways: tuple[Way, ...] = (POOL, CALLER), is_bounded: bool = False) -> ExecutionPlan:
    feeds = tuple(f"x{i}:0" for i in range(len(types)))
    return ExecutionPlan(Plan(feeds, ("y:0",), types, ways, is_bounded))


def test_each_size_of_input_has_a_choice_of_its_own():
    p = plan(DataType.DT_FLOAT)
    one, many = [np.zeros(1, np.float32)], [np.zeros(100, np.float32)]
    first_trial(p.choice(one), {"pool": 25, "caller": 4})
    first_trial(p.choice(many), {"pool": 1000, "caller": 2000})
    p.choice([np.zeros(8, np.float32)])
    assert p.choices == {1: "caller", 128: "pool", 8: None}


def test_choices_tell_which_sizes_run_on_the_loop():
    p = plan(DataType.DT_FLOAT, is_bounded=True)
    first_trial(p.choice([np.zeros(1, np.float32)]), {"pool": 25, "caller": 4})
    first_trial(p.choice([np.zeros(100, np.float32)]), {"pool": 1000, "caller": 2000})
    assert p.choices == {1: "loop", 128: "pool"}


def test_sizes_do_not_matter_to_a_single_way():
    p = plan(DataType.DT_FLOAT, ways=(POOL,))
    assert p.choice([np.zeros(1)]) is p.choice([np.zeros(100)])


@pytest.mark.parametrize(
    ("expected", "array", "sentence"),
    [
        (DataType.DT_FLOAT, np.zeros(1), "Expects arg[0] to be float but double is provided"),
        (DataType.DT_FLOAT, np.array([b""], object), "Expects arg[0] to be float but string is provided"),
        (DataType.DT_STRING, np.array([b"a"]), "Expects arg[0] to be string but invalid is provided"),
        (DataType.DT_HALF, np.zeros(1, np.uint16), "Expects arg[0] to be half but uint16 is provided"),
        (DataType.DT_QINT8, np.zeros(1, np.int8), "Expects arg[0] to be qint8 but int8 is provided"),
        (DataType.DT_FLOAT, np.zeros(1, ">f4"), "Expects arg[0] to be float but invalid is provided"),
        (DataType.DT_RESOURCE, np.zeros(1, np.float32), "Expects arg[0] to be resource but float is provided"),
    ],
)
def test_wrong_dtype_is_refused_with_its_sentence(expected, array, sentence):
    with pytest.raises(InvalidArgument) as raised:
        plan(expected).check_dtypes([array])
    assert str(raised.value) == sentence


def test_wrong_dtype_is_named_by_its_position():
    with pytest.raises(InvalidArgument, match=r"^Expects arg\[1\] to be int64 but int32 is provided$"):
        plan(DataType.DT_INT64, DataType.DT_INT64).check_dtypes([np.zeros(1, np.int64), np.zeros(1, np.int32)])


def test_right_dtypes_pass_whatever_their_shape():
    arrays = [np.zeros((0, 3), np.float32), np.array(b"", object), np.zeros((), DataType.DT_QINT8.numpy)]
    plan(DataType.DT_FLOAT, DataType.DT_STRING, DataType.DT_QINT8).check_dtypes(arrays)
