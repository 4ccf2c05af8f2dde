"""What follows from the samples of the gRPC load benchmark, and what it tells servers to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.grpc_load import generator, report, results, servers
from benchmarks.grpc_load.generator import Outcome
from benchmarks.grpc_load.models import Model
from benchmarks.grpc_load.results import Idle, Results, Sample, Soak
from benchmarks.grpc_load.servers import ServerFailed
from benchmarks.grpc_load.workloads import CELLS, GATES, WORKLOADS, Cell, Gate, Measure
from pyserving import protos
from pyserving.codec import tensor_proto

CELL = Cell("half_plus_two", 32)


def sample(server: str, round: int, rate: float, *, cell: Cell = CELL, mean_us: float = 100.0) -> Sample:
    return Sample(server, cell, round, rate, mean_us, mean_us, mean_us, 10.0, 1 << 20, 0.5)


def test_gate_takes_the_median_of_the_ratios_of_rounds():
    # The machine slows down by the round; the medians of the rates would give 2.0.
    samples = [sample("http2", n, rate) for n, rate in enumerate((900.0, 400.0, 100.0))]
    samples += [sample("floor-pool", n, rate) for n, rate in enumerate((300.0, 200.0, 25.0))]
    verdict = results.judge(Gate(CELL, Measure.RATE_RATIO, "floor", 2.5), samples)
    assert verdict.reached == "3.00 (2.00 to 4.00)"
    assert verdict.passed is True


def test_gate_compares_with_the_faster_setting():
    samples = [sample("http2", 0, 100.0), sample("floor-pool", 0, 50.0), sample("floor-inline", 0, 80.0)]
    verdict = results.judge(Gate(CELL, Measure.RATE_RATIO, "floor", 1.8), samples)
    assert verdict.against == "floor-inline"
    assert verdict.passed is False


@pytest.mark.parametrize(("mean_us", "passed"), [(10_600.0, True), (10_700.0, False)])
def test_gate_allows_so_many_milliseconds_more(mean_us, passed):
    samples = [sample("http2", 0, 1.0, mean_us=mean_us), sample("bare-pool", 0, 1.0, mean_us=10_000.0)]
    assert results.judge(Gate(CELL, Measure.LATENCY_MORE_MS, "bare", 0.6), samples).passed is passed


def test_round_in_which_one_failed_does_not_count():
    samples = [sample("http2", 0, 100.0), sample("http2", 1, 300.0), sample("grpcio", 1, 100.0)]
    assert results.judge(Gate(CELL, Measure.RATE_RATIO, "grpcio", 3.0), samples).passed is True


def test_gate_without_its_other_server_is_not_judged():
    verdict = results.judge(Gate(CELL, Measure.RATE_RATIO, "prototype", 0.8), [sample("http2", 0, 1.0)])
    assert verdict.passed is None


def test_every_gate_is_about_a_cell_that_is_measured():
    assert {gate.cell for gate in GATES} <= set(CELLS)
    assert {cell.workload for cell in CELLS} <= set(WORKLOADS)


@pytest.mark.parametrize(("bytes_a_second", "passed"), [(0, True), (100_000, False)])
def test_soak_fails_when_memory_goes_on_growing(bytes_a_second, passed):
    # In the first minute it may grow as it likes.
    rss = tuple((float(at), 500_000_000 + min(at, 60) * 1_000_000 + at * bytes_a_second) for at in range(10, 610, 10))
    assert results.judge_soak(Soak("http2", 1.0, 1, 600.0, rss)).passed is passed


def test_idle_gate_is_below_twenty_thousand_bytes():
    assert results.judge_idle(Idle("http2", 1000, 19_999.0)).passed is True
    assert results.judge_idle(Idle("http2", 1000, 20_000.0)).passed is False


def test_report_names_the_cores_and_what_went_wrong():
    found = Results(samples=[sample("http2", 0, 800.0), sample("grpcio", 0, 100.0)], troubles=["grpcio: it fell over"])
    page = report.markdown(found, "a machine", 2)
    assert (
        "| half_plus_two, 32 in flight: calls/s, times the other's | grpcio | ≥ 8 | 8.00 (8.00 to 8.00) | PASS |"
        in page
    )
    assert "reached on 2 cores" in page
    assert "- grpcio: it fell over" in page


def test_server_is_read_with_its_workloads():
    command = servers.parse_server("prototype-thread@image,idle=A=1 run --port={port} -k=v")
    assert (command.name, command.workloads) == ("prototype-thread", ("image", "idle"))
    assert servers.split_command(command.command, {"port": "7"}) == ({"A": "1"}, ["run", "--port=7", "-k=v"])


@pytest.mark.parametrize("text", ["name", "=command", "name@nothing=command", "name="])
def test_server_that_says_too_little_is_refused(text):
    with pytest.raises(ValueError, match="not NAME"):
        servers.parse_server(text)


def test_command_with_an_unknown_word_in_braces_is_refused():
    with pytest.raises(ServerFailed, match="nothing"):
        servers.split_command("run {nothing}", {"port": "7"})


@pytest.fixture
def model(tmp_path: Path) -> Model:
    np.save(tmp_path / "expected.npy", np.array([[2.5, 3.0]], np.float32))
    return Model("", "", "", "x", "y", "x:0", "y:0", {}, "", str(tmp_path / "expected.npy"))


def outcome(message: bytes, **changes: object) -> Outcome:
    figures = {"statuses": {"0": 5}, "first_failure": "", "left_open": 0, "unkept_answers": 0}
    return Outcome(figures | {"answers": [[0, 5, message.hex()]]} | changes)


def answer(values: list[float]) -> bytes:
    response = protos.PredictResponse()
    tensor_proto.encode_into(np.array(values, np.float32), response.outputs["y"])
    body = response.SerializeToString()
    return b"\0" + len(body).to_bytes(4, "big") + body


def test_right_answers_are_no_trouble(model):
    assert generator.troubles(outcome(answer([2.5, 3.0])), model) == []


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (answer([2.5, 9.0]), "expected"),
        (answer([2.5]), "of shape"),
        (b"\0\0\0\0\0", "no output y"),
        (b"\0\0\0\0\3ab", "not one gRPC message"),
        (b"\0\0\0\0\2\xff\xff", "rror"),
    ],
)
def test_wrong_answer_is_a_trouble(model, message, why):
    (found,) = generator.troubles(outcome(message), model)
    assert "5 answers to request 0 are wrong" in found
    assert why in found


def test_calls_that_failed_or_got_lost_are_troubles(model):
    failed = outcome(answer([2.5, 3.0]), statuses={"0": 5, "13": 2}, first_failure="13: oh", left_open=1)
    assert len(generator.troubles(failed, model)) == 2
