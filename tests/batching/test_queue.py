"""Batches by arithmetic: who runs with whom, in what order, and how many may wait."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserving.batching.parameters import QueueOptions
from pyserving.batching.queue import Batch, BatchQueue, BatchTask
from pyserving.errors import InvalidArgument, Unavailable

SPLITTING = QueueOptions(
    max_batch_size=8, max_execution_batch_size=4, max_enqueued_batches=3, enable_large_batch_splitting=True
)


def options(size: int = 4, **more: object) -> QueueOptions:
    return QueueOptions(max_batch_size=size, max_execution_batch_size=size, **more)  # type: ignore[arg-type]


def task(size: int = 1, variety: str = "a", at: float = 0.0, deadline: float | None = None) -> BatchTask:
    return BatchTask(size, variety, at, deadline)


def tasks_of(batch: Batch[BatchTask] | None) -> list[BatchTask]:
    return [piece.task for piece in batch.pieces] if batch is not None else []


def scheduled(queue: BatchQueue[BatchTask], *tasks: BatchTask) -> list[BatchTask]:
    for each in tasks:
        queue.schedule(each)
    return list(tasks)


def test_all_that_waits_runs_together_in_the_order_of_arrival():
    queue = BatchQueue(options(8))
    tasks = scheduled(queue, task(1), task(3), task(2))
    batch = queue.take(0)
    assert tasks_of(batch) == tasks
    assert [(piece.start, piece.size) for piece in batch.pieces] == [(0, 1), (0, 3), (0, 2)]
    assert batch.size == 6
    assert (queue.depth, queue.rows, queue.take(0), queue.due()) == (0, 0, None, None)


def test_batch_ends_before_the_first_that_does_not_fit():
    queue = BatchQueue(options(4))
    first, second, third = scheduled(queue, task(3), task(2), task(1))
    assert tasks_of(queue.take(0)) == [first]
    assert tasks_of(queue.take(0)) == [second, third]


def test_varieties_never_share_a_batch_and_take_turns():
    queue = BatchQueue(options(2))
    a, b, a2, a3, b2 = scheduled(queue, *(task(1, variety) for variety in "abaab"))
    assert [tasks_of(queue.take(0)) for _ in range(4)] == [[a, a2], [b, b2], [a3], []]


def test_with_a_timeout_a_batch_waits_for_more():
    queue = BatchQueue(options(4, batch_timeout_micros=1_000_000))
    first, _ = scheduled(queue, task(1, at=10.0), task(1, at=10.5))
    assert queue.due() == 11.0
    assert queue.take(10.9) is None
    assert len(tasks_of(queue.take(11.0))) == 2
    scheduled(queue, first)
    assert first.left == 0


def test_under_pressure_a_request_runs_even_if_it_is_larger_than_the_batch_that_would_relieve():
    queue = BatchQueue(options(8, batch_timeout_micros=2_000))
    hasty, large = scheduled(queue, task(1, at=10.0, deadline=10.001), task(5, at=10.0))
    queue.drop(hasty, late_at=10.001)
    assert tasks_of(queue.take(queue.due())) == [large]


@pytest.mark.parametrize("sizes", [(4,), (2, 2), (3, 2)])
def test_full_batch_does_not_wait_for_its_timeout(sizes):
    queue = BatchQueue(options(4, batch_timeout_micros=1_000_000))
    scheduled(queue, *(task(size, at=10.0) for size in sizes))
    assert queue.due() < 10.0
    assert queue.take(10.0) is not None


def test_one_variety_that_is_full_does_not_wait_behind_one_that_is_not():
    queue = BatchQueue(options(2, batch_timeout_micros=1_000_000))
    scheduled(queue, task(1, "a"), task(2, "b"))
    assert tasks_of(queue.take(0))[0].variety == "b"
    assert queue.take(0) is None


def test_request_larger_than_a_batch_is_refused():
    with pytest.raises(InvalidArgument, match=r"^Task size 5 is larger than maximum input batch size 4$"):
        BatchQueue(options(4)).schedule(task(5))


def test_full_queue_is_unavailable():
    queue = BatchQueue(options(2, max_enqueued_batches=2))
    scheduled(queue, task(2), task(2))
    with pytest.raises(
        Unavailable,
        match=r"^The batch scheduling queue to which this task was submitted is full; currently 2 batches enqueued and "
        r"max_enqueued_batches is 2$",
    ):
        queue.schedule(task(1))
    assert queue.depth == 2


@pytest.mark.proves("difference: Batching: `max_enqueued_batches`")
def test_many_shapes_do_not_fill_the_queue():
    queue = BatchQueue(options(10, max_enqueued_batches=2))
    scheduled(queue, *(task(1, str(number)) for number in range(20)))
    with pytest.raises(Unavailable):
        queue.schedule(task(1, "0"))


def test_full_queue_that_splits_tells_its_numbers():
    queue = BatchQueue(SPLITTING)
    scheduled(queue, task(8))
    with pytest.raises(
        Unavailable,
        match=r"^The batch scheduling queue to which this task was submitted is full; task size is 5 but scheduling "
        r"capacity is only 4 \(num_enqueued_batches=2, max_enqueued_batches=3, open_batch_size=4, "
        r"max_execution_batch_size=4\)$",
    ):
        queue.schedule(task(5))


def test_large_request_is_cut_and_fills_what_room_there_is():
    queue = BatchQueue(SPLITTING)
    small, large = scheduled(queue, task(3), task(7))
    batches = [queue.take(0) for _ in range(3)]
    assert [[(piece.task, piece.start, piece.size) for piece in batch.pieces] for batch in batches] == [
        [(small, 0, 3), (large, 0, 1)],
        [(large, 1, 4)],
        [(large, 5, 2)],
    ]
    assert queue.rows == 0


def test_task_that_was_dropped_never_runs_and_leaves_no_hole():
    queue = BatchQueue(options(2))
    first, second, third = scheduled(queue, task(1), task(1), task(1))
    assert queue.drop(first)
    assert not queue.drop(first)
    assert tasks_of(queue.take(0)) == [second, third]


def test_rest_of_a_cut_request_can_be_dropped():
    queue = BatchQueue(SPLITTING)
    (large,) = scheduled(queue, task(8))
    queue.take(0)
    assert queue.drop(large)
    assert (queue.rows, queue.depth, queue.take(0)) == (0, 0, None)


def test_expired_tasks_are_dropped_one_by_one():
    expired = []
    queue = BatchQueue(options(4), expired.append)
    old, young, timeless = scheduled(queue, task(deadline=1.0), task(deadline=9.0), task())
    assert tasks_of(queue.take(1.0)) == [young, timeless]
    assert expired == [old]


def test_batch_of_expired_tasks_is_none():
    expired = []
    queue = BatchQueue(options(4), expired.append)
    tasks = scheduled(queue, task(deadline=1.0), task(deadline=2.0))
    assert queue.take(5.0) is None
    assert expired == tasks
    assert queue.due() is None


def test_nothing_joins_a_batch_that_would_make_it_late():
    queue = BatchQueue(options(8))
    for rows, seconds in ((1, 0.010), (2, 0.015), (4, 0.025)):
        queue.record("a", rows, seconds)
    first, second, third = scheduled(queue, *(task(deadline=0.020) for _ in range(3)))
    assert tasks_of(queue.take(0)) == [first, second]
    assert tasks_of(queue.take(0.005)) == [third]


@pytest.mark.proves("difference: Batching: a deadline that a run could not meet any more")
def test_task_that_cannot_be_in_time_makes_way_for_those_who_can():
    late = []
    queue = BatchQueue(options(8), late.append)
    queue.record("a", 1, 0.010)
    hasty, patient = scheduled(queue, task(deadline=0.005), task(deadline=1.0))
    assert tasks_of(queue.take(0)) == [patient]
    assert late == [hasty]


def test_task_that_cannot_be_in_time_runs_when_nothing_else_waits():
    queue = BatchQueue(options(8))
    queue.record("a", 1, 0.010)
    (hasty,) = scheduled(queue, task(deadline=0.005))
    assert tasks_of(queue.take(0)) == [hasty]


def test_under_pressure_batches_are_full_of_those_who_can_wait_for_them():
    late = []
    queue = BatchQueue(options(4), late.append)
    for rows, seconds in ((1, 0.010), (2, 0.011), (4, 0.012)):
        for _ in range(3):
            queue.record("a", rows, seconds)
    gone, saved, *patient, lost = scheduled(
        queue, *(task(deadline=deadline) for deadline in (0.0, 0.0125, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0125))
    )
    assert tasks_of(queue.take(0)) == [saved, patient[0]]
    assert late == [gone]
    assert tasks_of(queue.take(0)) == patient[1:]
    assert late == [gone, lost]


@pytest.mark.proves("difference: Batching without a timeout")
def test_smaller_batch_is_taken_once_it_is_known_to_take_less_for_each_row():
    queue = BatchQueue(options(8))
    for rows, seconds in ((1, 0.010), (2, 0.012), (4, 0.018), (8, 0.080)):
        for _ in range(3):
            queue.record("a", rows, seconds)
    scheduled(queue, *(task() for _ in range(8)))
    assert [queue.take(0).size for _ in range(2)] == [4, 4]


def test_size_is_counted_with_what_a_run_is_filled_up_with():
    queue = BatchQueue(options(8, allowed_batch_sizes=(2, 8)))
    for rows, seconds in ((2, 0.010), (8, 0.100)):
        for _ in range(3):
            queue.record("a", rows, seconds)
    scheduled(queue, *(task() for _ in range(3)))
    assert [queue.take(0).size for _ in range(2)] == [2, 1]


def test_size_that_requests_never_make_is_not_tried_for_ever():
    queue = BatchQueue(options(64))
    for _ in range(60):
        scheduled(queue, *(task(3) for _ in range(8)))
        while (batch := queue.take(0)) is not None:
            queue.record("a", batch.size, 0.001)
    scheduled(queue, *(task(3) for _ in range(8)))
    assert queue.take(0).size == 24


class Story:
    """A queue under random requests: one thread takes batches whenever it is free."""

    def __init__(self, queue_options: QueueOptions, run_seconds: float) -> None:
        self.options = queue_options
        self.run_seconds = run_seconds
        self.expired: list[BatchTask] = []
        self.queue: BatchQueue[BatchTask] = BatchQueue(queue_options, self.expired.append)
        self.accepted: list[BatchTask] = []
        self.refused = 0
        self.batches: list[tuple[float, Batch[BatchTask]]] = []
        self.now = 0.0
        self.free_at = 0.0

    def arrive(self, gap: float, size: int, variety: str, patience: float | None) -> None:
        end = self.now + gap
        self._run_until(end)
        self.now = end
        new = task(size, variety, self.now, None if patience is None else self.now + patience)
        try:
            self.queue.schedule(new)
        except Unavailable:
            self.refused += 1
            assert self.queue.rows + size > self.options.max_execution_batch_size * self.options.max_enqueued_batches
        else:
            self.accepted.append(new)

    def finish(self) -> None:
        while self.queue.due() is not None:
            self._run_until(max(self.free_at, self.queue.due(), self.now))

    def _run_until(self, end: float) -> None:
        while (due := self.queue.due()) is not None and max(due, self.free_at, self.now) <= end:
            self.now = max(due, self.free_at, self.now)
            batch = self.queue.take(self.now)
            if batch is not None:
                self.batches.append((self.now, batch))
                self.free_at = self.now + self.run_seconds


ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.001, 0.01, 0.1]),
        st.integers(1, 6),
        st.sampled_from("abc"),
        st.sampled_from([None, None, 0.005, 0.05]),
    ),
    max_size=60,
)
OPTIONS = st.builds(
    lambda size, timeout, enqueued, splitting, execution: QueueOptions(
        max_batch_size=max(size, 6),
        max_execution_batch_size=min(execution, max(size, 6)) if splitting else max(size, 6),
        batch_timeout_micros=timeout,
        max_enqueued_batches=enqueued,
        enable_large_batch_splitting=splitting,
    ),
    st.integers(6, 12),
    st.sampled_from([0, 0, 2_000, 50_000]),
    st.integers(1, 5),
    st.booleans(),
    st.integers(1, 12),
)


@given(OPTIONS, ARRIVALS, st.sampled_from([0.0, 0.003, 0.03]))
@settings(max_examples=300, deadline=None)
def test_nobody_is_lost_or_served_twice_and_limits_and_order_hold(queue_options, arrivals, run_seconds):
    story = Story(queue_options, run_seconds)
    for arrival in arrivals:
        if arrival[1] <= queue_options.max_execution_batch_size * queue_options.max_enqueued_batches:
            story.arrive(*arrival)
    story.finish()
    pieces = [piece for _, batch in story.batches for piece in batch.pieces]
    for each in story.accepted:
        rows = sorted((piece.start, piece.size) for piece in pieces if piece.task is each)
        if each in story.expired:
            assert sum(size for _, size in rows) < each.size
        else:
            assert sum(size for _, size in rows) == each.size
        covered = 0
        for start, size in rows:
            assert start == covered
            covered += size
    for now, batch in story.batches:
        assert 0 < batch.size <= queue_options.max_execution_batch_size
        assert batch.size == sum(piece.size for piece in batch.pieces)
        assert len({piece.task.variety for piece in batch.pieces}) == 1
        assert all(piece.task.deadline is None or piece.task.deadline > now for piece in batch.pieces)
    for variety in "abc":
        served = [piece.task for piece in pieces if piece.task.variety == variety]
        order = [each for each in story.accepted if each in served]
        assert list(dict.fromkeys(served)) == order
    assert (story.queue.rows, story.queue.depth) == (0, 0)


@given(OPTIONS, ARRIVALS, st.sampled_from([0.0, 0.003]))
@settings(max_examples=200, deadline=None)
def test_nobody_waits_longer_than_the_timeout_and_the_runs_before(queue_options, arrivals, run_seconds):
    """One variety, a thread that is fast enough: the timeout, plus the run that is on, plus full batches before."""
    story = Story(queue_options, run_seconds)
    for gap, size, _, _ in arrivals:
        if size <= queue_options.max_execution_batch_size:
            story.arrive(gap, size, "a", None)
    story.finish()
    starts = [now for now, _ in story.batches]
    for index, (now, batch) in enumerate(story.batches):
        oldest = batch.pieces[0].task
        due = oldest.enqueued_at + queue_options.batch_timeout_seconds
        free_at = starts[index - 1] + run_seconds if index else 0.0
        assert now <= max(due, free_at) + 1e-9
