"""The metrics page, against pages written by hand from the contract, and the counting of requests."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pyserving.errors import NotFound
from pyserving.metric_family import Family, page
from pyserving.metrics import Metrics, RequestCells, RunCount

GOLDEN = Path(__file__).parent / "golden"
DOCUMENTATION = Path(__file__).parent.parent / "docs" / "metrics.md"


def golden(name: str) -> str:
    return (GOLDEN / name).read_text()


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.micros = 100_000_000

    def __call__(self) -> int:
        return self.micros * 1000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(clock: Clock) -> Metrics:
    return Metrics(clock)


def tensorflow_part(metrics: Metrics) -> str:
    """The page down to where prometheus-client's part begins with its first HELP line."""
    return metrics.exposition().decode().partition("# HELP")[0]


def test_all_families_of_a_fresh_server_show_their_type_lines(metrics):
    assert tensorflow_part(metrics) == golden("metrics_at_start.txt")


def test_latency_buckets_and_sum_print_with_six_digits(metrics):
    cell = metrics.request_latency.labels("half_plus_two", "Predict", "GRPC")
    for micros in (18, 250, 1234308):
        cell.add(micros)

    assert page([metrics.request_latency]) == golden("metrics_latency.txt")


def test_exposition_ends_with_process_platform_and_gc_in_the_form_of_prometheus_client(metrics):
    text = metrics.exposition().decode()

    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"process_resident_memory_bytes", "python_info", "python_gc_collections"} <= names
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_whole_page_parses_as_prometheus_text(metrics):
    with metrics.request('a "model"', "Predict", "GRPC"):
        pass

    families = {family.name: family for family in text_string_to_metric_families(metrics.exposition().decode())}
    (sample,) = families[":tensorflow:serving:request_count"].samples
    assert (sample.labels, sample.value) == ({"model_name": 'a "model"', "status": "OK"}, 1)


def test_value_is_that_of_the_first_cell(metrics):
    metrics.request_count.labels("b", "OK").increment(7)
    metrics.request_count.labels("a", "OK").increment(2)

    assert metrics.value("/tensorflow/serving/request_count") == 2


def test_value_of_what_has_no_number_is_zero(metrics):
    metrics.request_latency.labels("m", "Predict", "GRPC").add(5)

    assert metrics.value("/tensorflow/serving/request_latency") == 0
    assert metrics.value("/tensorflow/serving/request_count") == 0
    assert metrics.value(":tensorflow:serving:request_count") == 0
    assert metrics.value("/no/such/metric") == 0


def test_gauge_moves_both_ways(metrics):
    gauge = metrics.bytes_in_flight.labels()
    gauge.increment(100)
    gauge.decrement(30)
    gauge.increment()

    assert metrics.value("/pyserving/bytes_in_flight") == 71


def test_request_counts_and_times_a_success(metrics, clock):
    with metrics.request("m", "Predict", "GRPC") as request:
        request.version, request.signature_name = "3", "serving_default"
        clock.micros += 250

    assert metrics.request_count.labels("m", "OK").value == 1
    assert metrics.request_latency.labels("m", "Predict", "GRPC").sum == 250
    assert metrics.request_duration.labels("m", "3", "serving_default", "OK").sum == 250


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("Servable not found for request: Latest(m)"), "NOT_FOUND"),
        (asyncio.CancelledError(), "CANCELLED"),
        (ZeroDivisionError(), "INTERNAL"),
    ],
)
def test_request_counts_a_failure_by_its_code_and_lets_it_through(metrics, error, status):
    with pytest.raises(type(error)), metrics.request("m", "Predict", "GRPC"):
        raise error

    assert metrics.request_count.labels("m", status).value == 1
    assert page([metrics.request_latency]).count("\n") == 1


def test_request_that_no_servable_answered_is_timed_without_a_model(metrics):
    with pytest.raises(NotFound), metrics.request("made-up", "Predict", "GRPC"):
        raise NotFound("Servable not found for request: Latest(made-up)")

    assert sum(metrics.request_duration.labels("", "", "", "NOT_FOUND").counts) == 1
    assert "made-up" not in page([metrics.request_duration])


def test_request_may_learn_its_model_late(metrics):
    with metrics.request("", "", "REST") as request:
        request.model_name, request.api = "m", "predict"

    assert metrics.request_count.labels("m", "OK").value == 1
    assert sum(metrics.request_latency.labels("m", "predict", "REST").counts) == 1


def test_every_family_is_documented_with_its_labels(metrics):
    rows = [line.split("|") for line in DOCUMENTATION.read_text().splitlines() if line.startswith("| `:")]
    documented = {(row[1].strip(" `"), row[2].strip(), row[3].strip().replace("`", "")) for row in rows}

    families = [value for value in vars(metrics).values() if isinstance(value, Family)]
    assert documented == {
        (family.name.replace("/", ":"), family.kind, ", ".join(family.label_names) or "-") for family in families
    }


@pytest.mark.proves("difference: Names that clients make up")
def test_names_that_clients_make_up_do_not_grow_the_page():
    metrics = Metrics()
    metrics.know_model("mine")
    for number in range(1000):
        with pytest.raises(NotFound), metrics.request(f"made up {number}", "Predict", "GRPC"):
            raise NotFound("no such model")
    with pytest.raises(NotFound), metrics.request("long" * 1_000_000, "Predict", "GRPC"):
        raise NotFound("no such model")
    metrics.know_model("new")
    for name in ("mine", "new"):
        with metrics.request(name, "Predict", "GRPC"):
            pass
        assert metrics.request_count.labels(name, "OK").value == 1
    assert metrics.request_count.labels("made up 5", "NOT_FOUND").value == 1
    assert metrics.request_count.labels("(other)", "NOT_FOUND").value == 901
    assert len(page([metrics.request_count])) < 20_000


def families(metrics: Metrics) -> str:
    return "".join(line for line in metrics.exposition().decode().splitlines(keepends=True) if line[0] == ":")


@pytest.mark.parametrize("error", [None, NotFound("no"), RuntimeError("a bug"), asyncio.CancelledError()])
def test_cells_count_a_request_as_a_request_does(error: BaseException | None) -> None:
    one, other = Metrics(clock=lambda: 0), Metrics(clock=lambda: 0)
    for metrics in (one, other):
        metrics.know_model("m")
    cells = RequestCells(one, "Predict", "GRPC", "TF1", ("m", "7", "s"))
    cells.answered(0, 12.0)
    with other.request("m", "Predict", "GRPC") as request:
        other.runtime_latency.labels("m", "Predict", "TF1").add(12.0)
        request.version, request.signature_name = "7", "s"
    if error is not None:
        cells.failed(0, error)  # type: ignore[arg-type]
        with suppress(type(error)), other.request("m", "Predict", "GRPC"):
            raise error
    assert families(one) == families(other)


@pytest.mark.proves(
    "metric :tensorflow:core:direct_session_runs",
    "metric :tensorflow:core:graph_runs",
    "metric :tensorflow:core:graph_run_time_usecs",
)
def test_runs_are_counted_by_the_way_they_went() -> None:
    metrics = Metrics()
    count = RunCount(metrics, "m", "7")
    assert ":pyserving:runs_total{" not in families(metrics)
    for way in ("pool", "loop", "loop"):
        count(10.4, way)
    page = families(metrics)
    assert ':pyserving:runs_total{model="m",version="7",way="loop"} 2\n' in page
    assert ':pyserving:runs_total{model="m",version="7",way="pool"} 1\n' in page
    assert ":tensorflow:core:direct_session_runs{} 3\n" in page
    assert ":tensorflow:core:graph_runs{} 3\n" in page
    assert ":tensorflow:core:graph_run_time_usecs{} 30\n" in page
