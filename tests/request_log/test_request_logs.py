"""Which requests are logged, and what becomes of each, with a thread that works when the test says so."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pyserving import protos
from pyserving.codec.tf_record import records
from pyserving.metrics import Metrics
from pyserving.request_log.log_files import Bounds
from pyserving.request_log.record import Record
from pyserving.request_log.request_logs import RequestLogs
from pyserving.types import ServableId
from tests.fakes import HeldWorkers

ID = ServableId("m", 3)


class Bench:
    """RequestLogs over a folder."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.thread = HeldWorkers()
        self.metrics = Metrics()
        self.dice = 0.25
        self.logs = RequestLogs(self.thread, self.metrics, sample=lambda: self.dice, **options)  # type: ignore[arg-type]

    async def close(self) -> None:
        closing = asyncio.create_task(self.logs.__aexit__(None, None, None))
        await asyncio.sleep(0)
        await self.thread.release()
        await closing

    def answer(self, response: bytes = b"", id: ServableId = ID) -> None:
        if self.logs.picks(id.name):
            self.logs.answered("Predict", id, "serving_default", b"", response)

    def written(self, prefix: str = "m") -> list[bytes]:
        """Model specs of the answers, in the order of the files."""
        paths = sorted(self.folder.glob(f"{prefix}-*"))
        contents = (io.BytesIO(path.read_bytes()) for path in paths)
        logs = [protos.PredictionLog.FromString(record) for content in contents for record in records(content)]
        return [log.predict_log.response.model_spec.name.encode() for log in logs]

    def suffixes(self) -> list[str]:
        """`.open` for a file that is being written."""
        return [path.suffix for path in self.folder.iterdir()]

    def counts(self, model: str = "m") -> dict[str, int]:
        codes = ("OK", "RESOURCE_EXHAUSTED", "NOT_FOUND", "PERMISSION_DENIED", "INTERNAL")
        values = {code: self.metrics.request_log_count.labels(model, code).value for code in codes}
        return {code: value for code, value in values.items() if value}

    def dropped(self, reason: str) -> int:
        return self.metrics.request_log_dropped.labels("m", reason).value

    def config(self, name: str = "m", prefix: str = "m", rate: float = 1.0) -> protos.ModelConfig:
        config = protos.ModelConfig(name=name)
        config.logging_config.log_collector_config.filename_prefix = f"{self.folder}/{prefix}"
        config.logging_config.sampling_config.sampling_rate = rate
        return config

    def apply(self, *configs: protos.ModelConfig) -> None:
        self.logs.apply({config.name: config for config in configs})


def named(name: str, padding: int = 0) -> bytes:
    response = protos.PredictResponse()
    response.model_spec.name = name
    response.model_spec.signature_name = "x" * padding
    return response.SerializeToString()


@pytest.fixture
def options() -> Mapping[str, Any]:
    return {}


@pytest.fixture
async def bench(tmp_path: Path, options: Mapping[str, Any]) -> AsyncIterator[Bench]:
    made = Bench(tmp_path, **options)
    yield made
    await made.close()


@pytest.mark.proves("metric :tensorflow:serving:request_log_count")
async def test_answers_are_written_in_their_order(bench: Bench) -> None:
    bench.apply(bench.config())
    for name in "abc":
        bench.answer(named(name))
    await bench.thread.release()
    assert bench.written() == [b"a", b"b", b"c"]
    assert bench.counts() == {"OK": 3}


async def test_only_models_with_a_config_are_observed(bench: Bench) -> None:
    bench.apply(bench.config(), protos.ModelConfig(name="n"))
    assert bench.logs.observes("m")
    assert not bench.logs.observes("n")
    bench.answer(id=ServableId("n", 1))
    assert bench.thread.held[1:] == []


@pytest.mark.proves("field SamplingConfig.sampling_rate")
@pytest.mark.parametrize(("rate", "is_logged"), [(0.0, False), (0.25, False), (0.26, True), (1.0, True)])
async def test_the_sampling_rate_decides(bench: Bench, rate: float, is_logged: bool) -> None:
    bench.apply(bench.config(rate=rate))
    bench.answer()
    await bench.thread.release()
    assert bench.counts() == ({"OK": 1} if is_logged else {})


@pytest.mark.proves(
    "field SamplingConfig.per_task_sampling_configs",
    "field PerTaskSamplingConfig.dc",
    "field PerTaskSamplingConfig.task_index",
    "field PerTaskSamplingConfig.sampling_rate",
)
async def test_the_first_rate_that_is_made_for_any_task_takes_the_place_of_the_general_one(bench: Bench) -> None:
    config = bench.config(rate=0.0)
    tasks = config.logging_config.sampling_config.per_task_sampling_configs
    tasks.add(dc="xx", sampling_rate=0.0)
    tasks.add(task_index=0, sampling_rate=0.0)
    tasks.add(sampling_rate=1.0)
    bench.apply(config)
    bench.answer()
    await bench.thread.release()
    assert bench.counts() == {"OK": 1}


async def test_models_may_share_a_prefix(bench: Bench) -> None:
    bench.apply(bench.config(), bench.config("n"))
    bench.answer(named("a"))
    bench.answer(named("b"), ServableId("n", 1))
    await bench.thread.release()
    assert bench.written() == [b"a", b"b"]
    assert bench.counts("n") == {"OK": 1}


async def test_a_config_without_logging_ends_it_at_once_and_finishes_the_file(bench: Bench) -> None:
    bench.apply(bench.config())
    bench.answer(named("a"))
    bench.apply(protos.ModelConfig(name="m"))
    assert not bench.logs.observes("m")
    bench.answer(named("b"))
    await bench.thread.release()
    assert bench.written() == [b"a"]
    assert bench.suffixes() == [".tfrecord"]


@pytest.mark.proves("field LogCollectorConfig.filename_prefix")
async def test_another_prefix_is_taken_at_once(bench: Bench) -> None:
    bench.apply(bench.config())
    bench.answer(named("a"))
    bench.apply(bench.config(prefix="n"))
    bench.answer(named("b"))
    await bench.thread.release()
    assert (bench.written("m"), bench.written("n")) == ([b"a"], [b"b"])


async def test_the_same_config_again_goes_on_with_the_same_file(bench: Bench) -> None:
    for name in "ab":
        bench.apply(bench.config())
        bench.answer(named(name))
        await bench.thread.release()
    assert bench.written() == [b"a", b"b"]
    assert bench.suffixes() == [".open"]


@pytest.mark.parametrize("options", [{"max_queued_bytes": 3000}])
async def test_a_slow_disk_drops_what_finds_no_room_and_keeps_nobody_waiting(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.apply(bench.config())
    for name in "abcd":
        bench.answer(named(name, padding=1000))
    assert bench.dropped("queue") == 2
    await bench.thread.release()
    bench.answer(named("e", padding=1000))
    await bench.thread.release()
    assert bench.written() == [b"a", b"b", b"e"]
    assert bench.counts() == {"OK": 3, "RESOURCE_EXHAUSTED": 2}
    [warning] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "the disk is too slow" in warning.getMessage()


@pytest.mark.parametrize("options", [{"bounds": Bounds(max_file_bytes=1000)}])
async def test_a_record_too_large_for_a_file_is_counted(bench: Bench) -> None:
    bench.apply(bench.config())
    bench.answer(named("a", padding=1000))
    bench.answer(named("b"))
    await bench.thread.release()
    assert bench.written() == [b"b"]
    assert bench.dropped("too_large") == 1


async def test_a_place_that_cannot_be_written_to_is_told_and_counted(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    (bench.folder / "file").write_text("")
    bench.apply(bench.config(prefix="file/m"))
    bench.answer()
    await bench.thread.release()
    assert bench.dropped("write") == 1
    assert bench.counts() == {"INTERNAL": 1}
    assert any(message.startswith("Requests cannot be logged to ") for message in caplog.messages)


async def test_a_record_for_which_there_is_no_memory_is_the_only_one_that_is_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = Record.encoded

    def encoded_if_small(record: Record, sampling_config: bytes, saved_model_tags: tuple[str, ...]) -> bytes:
        if len(record.response) > 1000:
            raise MemoryError
        return encoded(record, sampling_config, saved_model_tags)

    monkeypatch.setattr(Record, "encoded", encoded_if_small)
    bench.apply(bench.config())
    for response in (named("a"), named("b", padding=1000), named("c")):
        bench.answer(response)
    await bench.thread.release()
    assert bench.written() == [b"a", b"c"]
    assert bench.counts() == {"OK": 2, "RESOURCE_EXHAUSTED": 1}
    assert bench.dropped("write") == 1


@pytest.mark.parametrize("options", [{"bounds": Bounds(max_file_seconds=0.0)}])
async def test_a_file_is_finished_when_its_time_is_over(bench: Bench) -> None:
    bench.apply(bench.config())
    bench.answer(named("a"))
    while ".tfrecord" not in bench.suffixes():
        await bench.thread.release()
        await asyncio.sleep(0)  # the timer's turn
    bench.answer(named("b"))
    await bench.thread.release()
    assert bench.written() == [b"a", b"b"]
    assert sorted(bench.suffixes()) == [".open", ".tfrecord"]


async def test_what_waits_at_the_end_is_written(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.apply(bench.config())
    for name in "ab":
        bench.answer(named(name))
    await bench.close()
    assert bench.written() == [b"a", b"b"]
    assert bench.suffixes() == [".tfrecord"]
