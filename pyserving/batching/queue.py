"""Forms batches: which requests run together, in what order, and how many may wait. Pure; time comes as an argument.

Batches are formed when one is taken, not when requests come: who has left meanwhile leaves no hole, and a request that
is cut in pieces fills whatever room there is. What shared_batch_scheduler.h decides on arrival comes out the same: a
batch holds requests in the order of their arrival up to the first that does not fit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, NoReturn, TypeVar

from pyserving.batching.costs import RunCosts
from pyserving.batching.parameters import QueueOptions
from pyserving.errors import InvalidArgument, Unavailable


class BatchTask:
    """One request in a queue. Times are in seconds of the clock that `take` is asked with."""

    __slots__ = ("deadline", "enqueued_at", "size", "taken", "variety")

    def __init__(self, size: int, variety: Hashable, enqueued_at: float, deadline: float | None = None) -> None:
        self.size = size
        """Rows; one at least."""
        self.variety = variety
        """Only tasks of equal variety share a batch: dtypes and shapes, but for the rows."""
        self.enqueued_at = enqueued_at
        self.deadline = deadline
        self.taken = 0
        """Rows of it that are in batches already."""

    @property
    def left(self) -> int:
        """Rows that wait."""
        return self.size - self.taken


T = TypeVar("T", bound=BatchTask)
_NEVER = float("inf")
_AT_ONCE = -_NEVER


class Piece(NamedTuple, Generic[T]):
    """Rows of a task: all of them, but where large requests are split."""

    task: T
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """Tasks that run together."""

    pieces: tuple[Piece[T], ...]
    size: int
    """Rows; what a run is filled up with is not counted."""


class _Lane(Generic[T]):
    """Tasks of one variety that wait, in the order in which they came."""

    __slots__ = ("costs", "earliest", "rows", "tasks")

    def __init__(self, costs: RunCosts) -> None:
        self.tasks: dict[T, None] = {}
        self.rows = 0
        self.costs = costs
        self.earliest = _NEVER
        """No deadline of theirs comes before."""


class BatchQueue(Generic[T]):
    """Tasks of one pair of feeds and fetches of one version."""

    VARIETIES_REMEMBERED = 64
    """Whose run times are kept when none of their tasks waits."""
    SLACK_FACTOR = 1.1
    """Between the end of a run and its answers at their clients lies some more work."""

    def __init__(self, options: QueueOptions, on_expired: Callable[[T], None] = lambda task: None) -> None:
        """`on_expired(task)` hears of each task that is dropped because its deadline has passed, or cannot be met."""
        self._options = options
        # Rows are counted, not open batches: a queue with many shapes in it would be full of half-empty ones.
        self._most_rows = options.max_execution_batch_size * options.max_enqueued_batches
        self._on_expired = on_expired
        self._lanes: dict[Hashable, _Lane[T]] = {}
        """Those with tasks; the one whose turn it is comes first."""
        self._costs: OrderedDict[Hashable, RunCosts] = OrderedDict()
        self.rows = 0
        """Rows that wait."""
        self.depth = 0
        """Tasks that wait."""

    def schedule(self, task: T) -> None:
        """Take a task in.

        Raises InvalidArgument for one that is too large ever to run, Unavailable when too much waits already.
        """
        if task.size > self._options.max_batch_size or task.size > self._most_rows - self.rows:
            self._refuse(task)
        lane = self._lanes.get(task.variety)
        if lane is None:
            lane = self._lanes[task.variety] = _Lane(self._costs_of(task.variety))
        if task.deadline is not None and task.deadline < lane.earliest:
            lane.earliest = task.deadline
        lane.tasks[task] = None
        lane.rows += task.size
        self.rows += task.size
        self.depth += 1

    def drop(self, task: T, late_at: float | None = None) -> bool:
        """Forget a task whose caller has gone, at `late_at` because it was too late; False when nothing of it waits."""
        lane = self._lanes.get(task.variety)
        if lane is None or task not in lane.tasks:
            return False
        if late_at is not None:
            lane.costs.missed_deadline(late_at)
        self._remove(lane, task)
        return True

    def take(self, now: float, threads: int = 1, running: int = 0) -> Batch[T] | None:
        """The next batch that may run, without those tasks that it would not serve any more; None: there is none.

        So many `threads` may run batches of this queue; they run so many rows of it now.
        """
        timeout = self._options.batch_timeout_seconds
        for variety, lane in list(self._lanes.items()) if timeout else self._in_turn():
            if timeout and not self._is_ready(lane, now):
                continue
            batch = self._form(lane, now, threads, running)
            if variety in self._lanes:
                self._lanes[variety] = self._lanes.pop(variety)
            if batch is not None:
                return batch
        return None

    def due(self) -> float | None:
        """When the next batch may run if nothing more comes: a time gone by for at once; None when nothing waits."""
        if not self._options.batch_timeout_micros:
            return _AT_ONCE if self._lanes else None
        limit, timeout = self._options.max_execution_batch_size, self._options.batch_timeout_seconds
        times = (
            _AT_ONCE if lane.rows >= limit else _oldest(lane).enqueued_at + timeout for lane in self._lanes.values()
        )
        return min(times, default=None)

    def record(self, variety: Hashable, rows: int, seconds: float) -> None:
        """A batch of this variety has run, with so many rows."""
        self._costs_of(variety).record(rows, seconds)

    def _refuse(self, task: T) -> NoReturn:
        options = self._options
        if task.size > options.max_batch_size:
            raise InvalidArgument(
                f"Task size {task.size} is larger than maximum input batch size {options.max_batch_size}"
            )
        size, batches = options.max_execution_batch_size, options.max_enqueued_batches
        room = self._most_rows - self.rows
        enqueued = -(-self.rows // size)
        full = "The batch scheduling queue to which this task was submitted is full;"
        if not options.enable_large_batch_splitting:
            raise Unavailable(f"{full} currently {enqueued} batches enqueued and max_enqueued_batches is {batches}")
        enqueued = max(1, enqueued)
        raise Unavailable(
            f"{full} task size is {task.size} but scheduling capacity is only {room} (num_enqueued_batches={enqueued}, "
            f"max_enqueued_batches={batches}, open_batch_size={self.rows - (enqueued - 1) * size}, "
            f"max_execution_batch_size={size})"
        )

    def _costs_of(self, variety: Hashable) -> RunCosts:
        if variety in self._costs:
            self._costs.move_to_end(variety)
        else:
            self._costs[variety] = RunCosts()
            if len(self._costs) > self.VARIETIES_REMEMBERED:
                self._costs.popitem(last=False)
        return self._costs[variety]

    def _in_turn(self) -> Iterator[tuple[Hashable, _Lane[T]]]:
        """Each lane once, the list of them not copied: mostly the first one is taken."""
        for _ in range(len(self._lanes)):
            if not self._lanes:
                return
            yield next(iter(self._lanes.items()))

    def _is_ready(self, lane: _Lane[T], now: float) -> bool:
        if lane.rows >= self._options.max_execution_batch_size:
            return True
        return now >= _oldest(lane).enqueued_at + self._options.batch_timeout_seconds

    def _form(self, lane: _Lane[T], now: float, threads: int, running: int) -> Batch[T] | None:
        limit = self._limit(lane, threads, running)
        if lane.rows <= limit and now + self._needed(lane, lane.rows) < lane.earliest:
            return self._all(lane)
        if lane.costs.is_pressed(now):
            limit = self._relieve(lane, now, limit)
        pieces, expired, too_late = self._fill(lane, now, limit)
        self._expire(lane, expired, now)
        if pieces:
            self._expire(lane, too_late, now)
        elif too_late:  # by what was measured last: who has most time measures again
            most_patient = max(too_late, key=_deadline)
            size = self._fitting(most_patient, max(limit, most_patient.left))
            pieces = [Piece(most_patient, most_patient.taken, min(size, self._options.max_execution_batch_size))]
        return self._taken(lane, pieces) if pieces else None

    def _all(self, lane: _Lane[T]) -> Batch[T]:
        pieces = tuple(Piece(task, task.taken, task.size - task.taken) for task in lane.tasks)
        for task in lane.tasks:
            task.taken = task.size
        self.rows -= lane.rows
        self.depth -= len(pieces)
        del self._lanes[pieces[0].task.variety]
        return Batch(pieces, lane.rows)

    def _limit(self, lane: _Lane[T], threads: int, running: int) -> int:
        """Rows of the next batch, as far as there are as many."""
        options = self._options
        if options.batch_timeout_micros:
            return options.max_execution_batch_size
        most = min(lane.rows, options.max_execution_batch_size)
        best = lane.costs.best_size(most, threads, running, options.run_size)
        return max(best, self._least(lane))

    def _least(self, lane: _Lane[T]) -> int:
        """Whole tasks have to fit; the first one's size is no matter of choice."""
        return 1 if self._options.enable_large_batch_splitting else _oldest(lane).left

    def _expire(self, lane: _Lane[T], tasks: Iterable[T], now: float) -> None:
        for task in tasks:
            lane.costs.missed_deadline(now)
            self._remove(lane, task)
            self._on_expired(task)

    def _relieve(self, lane: _Lane[T], now: float, limit: int) -> int:
        """Where not everybody can be served, serve as many as can be: full batches, of those who can wait for them."""
        while limit > 1:
            needed = self._needed(lane, limit)
            hasty = [task for task in lane.tasks if task.deadline is not None and now + needed > task.deadline]
            if lane.rows - sum(task.left for task in hasty) >= limit:
                self._expire(lane, hasty, now)
                return max(limit, self._least(lane))
            limit = limit * 3 // 4
        return max(limit, self._least(lane))

    def _fill(self, lane: _Lane[T], now: float, limit: int) -> tuple[list[Piece[T]], list[T], list[T]]:
        """Pieces in order, as many as all can be in time; the tasks before them whose deadline is past, or too near."""
        pieces: list[Piece[T]] = []
        expired: list[T] = []
        too_late: list[T] = []
        rows, earliest = 0, _NEVER
        for task in lane.tasks:
            deadline = _NEVER if task.deadline is None else task.deadline
            if deadline <= now:
                expired.append(task)
                continue
            size = self._fitting(task, limit - rows)
            if not size:
                break
            if min(earliest, deadline) < _NEVER and now + self._needed(lane, rows + size) > min(earliest, deadline):
                if pieces:
                    break
                too_late.append(task)
                continue
            pieces.append(Piece(task, task.taken, size))
            rows += size
            earliest = min(earliest, deadline)
        return pieces, expired, too_late

    def _needed(self, lane: _Lane[T], rows: int) -> float:
        return lane.costs.estimate(self._options.run_size(rows)) * self.SLACK_FACTOR

    def _fitting(self, task: T, room: int) -> int:
        """Rows of a task that go into what is left of a batch."""
        if self._options.enable_large_batch_splitting:
            return min(task.left, room)
        return task.left if task.left <= room else 0

    def _taken(self, lane: _Lane[T], pieces: list[Piece[T]]) -> Batch[T]:
        for piece in pieces:
            if piece.size == piece.task.left:
                self._remove(lane, piece.task)
            else:
                lane.rows -= piece.size
                self.rows -= piece.size
            piece.task.taken += piece.size
        return Batch(tuple(pieces), sum(piece.size for piece in pieces))

    def _remove(self, lane: _Lane[T], task: T) -> None:
        del lane.tasks[task]
        lane.rows -= task.left
        self.rows -= task.left
        self.depth -= 1
        if not lane.tasks:
            self._lanes.pop(task.variety, None)


def _deadline(task: BatchTask) -> float:
    return _NEVER if task.deadline is None else task.deadline


def _oldest(lane: _Lane[T]) -> T:
    return next(iter(lane.tasks))
