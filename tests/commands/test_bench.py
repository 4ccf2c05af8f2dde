"""`pyserving bench` as a person types it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyserving import commands
from pyserving.codec import predict_request
from pyserving.codec.tf_record import framed
from pyserving.request_log.record import Record
from pyserving.types import ModelSpec, ServableId
from tests.commands.conftest import Served
from tests.served_core import ServedCore, TimesCore

SHORT = ("--requests", "20", "--warmup", "0.001", "--concurrency", "4")


@pytest.fixture(scope="module")
def doubling() -> Iterator[ServedCore]:
    with ServedCore(TimesCore(2.0)) as server:
        yield server


def run(*words: object) -> int:
    return commands.run(["bench", *map(str, words)])


def log(tmp_path: Path, *models: str) -> Path:
    path = tmp_path / "log"
    with path.open("wb") as file:
        for model in models:
            body = predict_request.encode(ModelSpec(model), {"x": np.ones(1, np.float32)})
            file.write(framed(Record("Predict", ServableId(model, 1), "", body, b"", 1).encoded(b"", ())))
    return path


def test_answers_are_counted_and_timed(doubling: ServedCore, capsys: Any) -> None:
    assert run("m", "--target", doubling.target, *SHORT) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["status", "calls", "calls/s", "p50", "ms", "p90", "ms", "p99", "ms", "max", "ms"]
    status, calls, rate, *times = lines[1].split()
    assert (status, calls) == ("OK", "20")
    assert float(rate.replace(",", "")) > 0
    assert sorted(map(float, times)) == [float(time) for time in times]
    assert lines[3].startswith("20 calls in ")


def test_scripts_get_json(doubling: ServedCore, capsys: Any) -> None:
    assert run("m", "--target", doubling.target, *SHORT, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["calls"], found["failed"], list(found["statuses"])) == (20, 0, ["OK"])
    assert found["statuses"]["OK"]["p50_ms"] <= found["statuses"]["OK"]["max_ms"]


def test_examples_are_sent_to_a_signature_that_classifies(doubling: ServedCore) -> None:
    assert run("m", "--target", doubling.target, *SHORT, "--signature", "classify") == 0


def test_inputs_may_be_given(doubling: ServedCore) -> None:
    assert run("m", "--target", doubling.target, *SHORT, "--inputs", '{"x": [1, 2], "words": ["a"]}') == 0


def test_the_requests_of_a_log_are_sent_at_a_rate(doubling: ServedCore, tmp_path: Path) -> None:
    flags = ("--rate", "10000", "--requests", "20", "--warmup", "0.001")
    assert run("m", "--target", doubling.target, *flags, "--log", log(tmp_path, "m", "n")) == 0


def test_failures_are_told_apart(doubling: ServedCore, tmp_path: Path, capsys: Any) -> None:
    assert run("n", "--target", doubling.target, *SHORT, "--log", log(tmp_path, "m", "n")) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["NOT_FOUND", "20"]
    assert lines[3] == "NOT_FOUND: Servable not found for request: Latest(n)"


def test_a_log_without_the_model_is_refused(doubling: ServedCore, tmp_path: Path, capsys: Any) -> None:
    assert run("k", "--target", doubling.target, *SHORT, "--log", log(tmp_path, "m")) == commands.FAILED
    assert "no log holds a request to the model k" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("m", "--target", "unix:/no/such", "--requests", "1"), "UNAVAILABLE"),
        (("m", "--rest", "--target", "127.0.0.1:1", "--requests", "1"), "UNAVAILABLE"),
        (("m", "--rest", "--log", "file"), "--rest cannot send them"),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_line(words: tuple[str, ...], sentence: str, capsys: Any) -> None:
    assert run(*words) == commands.FAILED
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_a_port_that_speaks_another_protocol_is_told(doubling: ServedCore, capsys: Any) -> None:
    assert run("m", "--rest", "--target", doubling.target) == commands.FAILED
    said = capsys.readouterr().err
    assert f"http://{doubling.target}/v1/models/m/metadata does not answer as the REST API does" in said
    assert said.count("\n") == 1


def test_a_server_that_is_gone_is_told_before_a_log_is_sent(tmp_path: Path, capsys: Any) -> None:
    assert run("m", "--target", "unix:/no/such", "--log", log(tmp_path, "m")) == commands.FAILED
    assert "UNAVAILABLE" in capsys.readouterr().err


def test_a_signature_that_is_not_there_is_told(doubling: ServedCore, capsys: Any) -> None:
    assert run("m", "--target", doubling.target, *SHORT, "--signature", "s") == commands.FAILED
    assert "it has classify, serving_default" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("half_plus_two",),
        ("half_plus_two", "--version", "1", "--inputs", '{"x": [1.0, 2.0]}'),
        ("half_plus_two", "--signature", "classify_x_to_y"),
        ("brightness",),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("api", ["grpc", "rest"])
def test_a_real_server_answers_over_both_ports(served: Served, words: tuple[str, ...], api: str, capsys: Any) -> None:
    where = ("--rest", "--target", f"127.0.0.1:{served.rest_port}") if api == "rest" else served.addresses[:2]
    if "classify_x_to_y" in words:
        assert run(*words, *where, *SHORT) == 1  # its Examples need a feature, of which a server tells nothing
        assert "x" in capsys.readouterr().out
    else:
        assert run(*words, *where, *SHORT) == 0


@pytest.mark.slow
def test_the_rest_api_of_a_real_server_names_what_it_has_not(served: Served, capsys: Any) -> None:
    assert run("n", "--rest", "--target", f"127.0.0.1:{served.rest_port}", *SHORT) == commands.FAILED
    assert "404" in capsys.readouterr().err
