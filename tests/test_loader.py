"""Loading and unloading one version, with an executor of the test's own."""

from __future__ import annotations

import weakref
from collections.abc import Mapping

import pytest

from pyserving.errors import DataLoss, InvalidArgument, NotFound, ServingError, Unavailable
from pyserving.executors.executor import Executor, Plan
from pyserving.loader import ServableLoader
from pyserving.signature import SignatureDef
from pyserving.types import AspiredVersion, ServableId
from pyserving.warmup import Reading, WarmupReport

VERSION = AspiredVersion(ServableId("m", 3), "/models/m/003")


class ClosableExecutor:
    signature_defs: Mapping[str, SignatureDef] = {}
    signature_def_map = b""

    def __init__(self, path: str) -> None:
        self.path = path
        self.closed = 0

    def plan(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Plan:
        raise InvalidArgument("nothing to plan")

    def close(self) -> None:
        self.closed += 1


class Opener:
    """Opens executors and remembers them; the first `failures` times there is nothing to open."""

    def __init__(self, failures: int = 0) -> None:
        self.opened: list[ClosableExecutor] = []
        self._failures = failures

    def __call__(self, path: str) -> Executor:
        if self._failures:
            self._failures -= 1
            raise NotFound(f"nothing at {path}")
        self.opened.append(ClosableExecutor(path))
        return self.opened[-1]


def servable(path: str, id: ServableId, executor: Executor) -> tuple[ServableId, Executor]:
    return id, executor


def test_servable_is_made_of_the_executor_of_its_folder():
    opener = Opener()
    made = ServableLoader(VERSION, opener, servable).load()
    assert made == (ServableId("m", 3), opener.opened[0])
    assert opener.opened[0].path == "/models/m/003"
    assert not opener.opened[0].closed


def test_unloading_closes_the_executor_once():
    opener = Opener()
    loader = ServableLoader(VERSION, opener, servable)
    loader.load()
    loader.unload()
    loader.unload()
    assert opener.opened[0].closed == 1


def test_load_that_failed_may_be_tried_again():
    opener = Opener(failures=1)
    loader = ServableLoader(VERSION, opener, servable)
    with pytest.raises(NotFound, match="nothing at /models/m/003"):
        loader.load()
    assert loader.load() == (VERSION.id, opener.opened[0])


def test_executor_is_closed_when_no_servable_can_be_made_of_it():
    opener = Opener()

    def refuse(path: str, id: ServableId, executor: Executor) -> None:
        raise InvalidArgument("no signatures")

    loader = ServableLoader(VERSION, opener, refuse)
    with pytest.raises(InvalidArgument, match="no signatures"):
        loader.load()
    assert opener.opened[0].closed == 1
    loader.unload()
    assert opener.opened[0].closed == 1


def test_servable_is_warmed_up_before_it_is_handed_over():
    opener = Opener()
    warmed = []

    def warm_up(path: str, servable: tuple[ServableId, Executor], report: WarmupReport) -> None:
        warmed.append((path, servable))
        report.add_run(12.0)

    loader = ServableLoader(VERSION, opener, servable, warm_up)
    made = loader.load()
    assert warmed == [("/models/m/003", made)]
    assert [warmup.runs for warmup in loader.take_warmups()] == [1]


def test_failed_warm_up_fails_the_load_which_may_be_tried_again():
    opener = Opener()
    failures = [DataLoss("no requests")]

    def warm_up(path: str, servable: tuple[ServableId, Executor], report: WarmupReport) -> None:
        report.add_run(12.0)
        if failures:
            raise failures.pop()

    loader = ServableLoader(VERSION, opener, servable, warm_up)
    with pytest.raises(DataLoss, match="no requests"):
        loader.load()
    assert opener.opened[0].closed == 1
    assert loader.load() == (VERSION.id, opener.opened[1])
    assert not opener.opened[1].closed
    assert [warmup.runs for warmup in loader.take_warmups()] == [1, 1]
    assert [attempt.has_succeeded for attempt in loader.take_attempts()] == [True, True], "TensorFlow's part of it"


def test_error_of_a_failed_warm_up_may_be_kept_without_keeping_the_model():
    opener = Opener()

    def warm_up(path: str, servable: tuple[ServableId, Executor], report: WarmupReport) -> None:
        raise InvalidArgument("no such input")

    with pytest.raises(InvalidArgument, match="no such input") as raised:
        ServableLoader(VERSION, opener, servable, warm_up).load()
    executor = weakref.ref(opener.opened.pop())
    assert raised.value.__traceback__ is not None
    assert executor() is None


def test_error_of_a_failed_load_may_be_kept_without_keeping_the_model():
    opener = Opener()

    def refuse(path: str, id: ServableId, executor: Executor) -> None:
        try:
            executor.plan((), ())
        except InvalidArgument as error:
            raise NotFound("no signatures") from error

    with pytest.raises(NotFound, match="no signatures") as raised:
        ServableLoader(VERSION, opener, refuse).load()
    executor = weakref.ref(opener.opened.pop())
    assert raised.value.__traceback__ is not None
    assert executor() is None


class Copy:
    """Of VERSION, elsewhere on the disk."""

    def __init__(self, error: ServingError | None = None) -> None:
        self.error = error
        self.is_there = False
        self.is_cancelled = False

    def bring(self) -> str:
        if self.error is not None:
            raise self.error
        self.is_there = True
        return "/cache/3"

    def cancel(self) -> None:
        self.is_cancelled = True

    def remove(self) -> None:
        self.is_there = False


def test_a_copy_is_what_is_opened_and_warmed_and_goes_when_it_is_unloaded():
    opener, copy, told = Opener(), Copy(), []

    def warm_up(path: str, servable: tuple[ServableId, Executor], report: WarmupReport) -> None:
        told.append(path)
        report.reading = Reading(path, "OK", 1, 12.0)

    def make(path: str, id: ServableId, executor: Executor) -> tuple[ServableId, Executor]:
        told.append(path)
        return id, executor

    loader = ServableLoader(VERSION, opener, make, warm_up, copy)
    loader.load()
    assert [opener.opened[0].path, *told] == ["/cache/3"] * 3
    assert [warmup.reading.model_path for warmup in loader.take_warmups()] == [loader.path] == ["/models/m/003"]
    assert copy.is_there
    loader.unload()
    assert not copy.is_there


def test_a_load_that_fails_leaves_no_copy_and_speaks_of_the_version():
    copy = Copy()
    loader = ServableLoader(VERSION, Opener(failures=1), servable, copy=copy)
    with pytest.raises(NotFound, match=r"^nothing at /models/m/003$"):
        loader.load()
    assert not copy.is_there
    loader.load()
    assert copy.is_there


def test_a_copy_that_cannot_be_had_fails_the_load_before_anything_is_opened():
    opener = Opener()
    loader = ServableLoader(VERSION, opener, servable, copy=Copy(Unavailable("line cut")))
    with pytest.raises(Unavailable, match="line cut"):
        loader.load()
    assert opener.opened == []
    assert list(loader.take_attempts()) == []


def test_a_load_that_nobody_wants_breaks_its_copying_off():
    copy = Copy()
    ServableLoader(VERSION, Opener(), servable, copy=copy).cancel()
    ServableLoader(VERSION, Opener(), servable).cancel()
    assert copy.is_cancelled
