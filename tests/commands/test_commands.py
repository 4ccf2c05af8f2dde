"""The commands, as a person types them, against real ports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyserving import commands, protos
from pyserving.client import Client
from pyserving.codec import predict_request
from pyserving.codec.tf_record import framed, records
from pyserving.commands import replaying
from pyserving.commands.table import table
from pyserving.messages import Buffer
from pyserving.request_log.reader import calls
from pyserving.request_log.record import Record
from pyserving.transports.tokens import Token, TokenCheck, digest_of
from pyserving.types import ManagerState, ModelSpec, ServableId, ServableState
from tests.served_core import ServedCore, TimesCore

CLASSIFY = "/tensorflow.serving.PredictionService/Classify"


class Logbook:
    """Observes all models, and keeps their records as they go into a file."""

    def __init__(self) -> None:
        self.records: list[bytes] = []

    def observes(self, model_name: str) -> bool:
        return True

    def picks(self, model_name: str) -> bool:
        return True

    def answered(
        self, api: str, servable_id: ServableId, signature_name: str, request: Buffer, response: bytes
    ) -> None:
        record = Record(api, servable_id, signature_name, bytes(request), response, 1700 + len(self.records))
        self.records.append(record.encoded(b"", ("serve",)))


@pytest.fixture(scope="module")
def logged() -> bytes:
    """The log of four calls to model m, which doubles."""
    logbook = Logbook()
    with ServedCore(TimesCore(2.0), logbook) as server, Client(server.target) as client:
        for x in ([1.0], [2.0], [1.0, 2.0]):
            client.predict("m", {"x": np.array(x, np.float32)})
        request = protos.ClassificationRequest()
        request.model_spec.name, request.model_spec.signature_name = "m", "classify"
        request.input.example_list.examples.add()
        client.call(CLASSIFY, request.SerializeToString())
    return b"".join(map(framed, logbook.records))


@pytest.fixture
def log(tmp_path: Path, logged: bytes) -> Path:
    path = tmp_path / "log.tfrecord"
    path.write_bytes(logged)
    return path


@pytest.fixture(scope="module")
def doubling() -> Iterator[ServedCore]:
    with ServedCore(TimesCore(2.0)) as server:
        yield server


@pytest.fixture(scope="module")
def tripling() -> Iterator[ServedCore]:
    with ServedCore(TimesCore(3.0)) as server:
        yield server


def run(*words: object) -> int:
    return commands.run([str(word) for word in words])


# replay


def test_a_server_that_answers_the_same_passes(log: Path, doubling: ServedCore, capsys: Any) -> None:
    assert run("replay", log, "--target", doubling.target, "--concurrency", 3) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "method", "calls", "same", "different", "failed", "not", "compared"]
    assert lines[1].split() == ["m", "Classify", "1", "1", "0", "0", "0"]
    assert lines[2].split() == ["m", "Predict", "3", "3", "0", "0", "0"]
    assert lines[4].split()[:3] == ["model", "method", "server"]
    assert doubling.target in lines[5]


def test_one_that_does_not_is_shown_to_differ(log: Path, tripling: ServedCore, capsys: Any) -> None:
    assert run("replay", log, "--target", tripling.target, "--show", 1) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{log}:1 Predict: y: 1 of 1 elements differ, by 1 at most"
    assert lines[3].split() == ["m", "Predict", "3", "0", "3", "0", "0"]


def test_two_servers_are_compared_with_each_other(
    log: Path, doubling: ServedCore, tripling: ServedCore, capsys: Any
) -> None:
    assert run("replay", log, "--target", tripling.target, "--diff", tripling.target) == 0
    assert run("replay", log, "--target", tripling.target, "--diff", doubling.target, "--rtol", 0.4) == 1
    assert run("replay", log, "--target", tripling.target, "--diff", doubling.target, "--rtol", 0.6) == 0
    assert tripling.target in capsys.readouterr().out


def test_scripts_get_counts_and_times_in_json(log: Path, tripling: ServedCore, capsys: Any) -> None:
    assert run("replay", log, "--target", tripling.target, "--show", 1, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["shown"] == [f"{log}:1 Predict: y: 1 of 1 elements differ, by 1 at most"]
    predict = found["methods"][1]
    assert (predict["method"], predict["calls"], predict["different"], predict["not_compared"]) == ("Predict", 3, 3, 0)
    assert predict["servers"][0]["server"] == tripling.target
    assert predict["servers"][0]["p50_ms"] > 0


def test_a_call_that_fails_is_told(log: Path, doubling: ServedCore, capsys: Any) -> None:
    assert run("replay", log, "--target", doubling.target, "--model", "n", "--max_records", 1) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("the target answers NOT_FOUND: Servable not found for request: Latest(n)")
    assert lines[2].split() == ["n", "Predict", "1", "0", "0", "1", "0"]


def test_two_servers_that_refuse_alike_are_alike(log: Path, doubling: ServedCore, tripling: ServedCore) -> None:
    assert run("replay", log, "--target", doubling.target, "--diff", tripling.target, "--model", "n") == 0


def test_a_log_that_a_crash_cut_is_read_to_where_it_is_whole(log: Path, doubling: ServedCore, capsys: Any) -> None:
    log.write_bytes(log.read_bytes()[:-5])
    assert run("replay", log, "--target", doubling.target) == 0
    assert "Classify" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "no file holds a request"),
        (b"text" * 9, "corrupted record at 0"),
        (framed(b"\xff"), "is no PredictionLog"),
    ],
)
def test_what_is_no_log_is_told(tmp_path: Path, content: bytes, sentence: str, capsys: Any) -> None:
    (tmp_path / "file").write_bytes(content)
    assert run("replay", tmp_path / "file", "--target", "localhost:1") == commands.FAILED
    assert sentence in capsys.readouterr().err


def test_a_file_that_is_not_there_is_told(tmp_path: Path, capsys: Any) -> None:
    assert run("replay", tmp_path / "no", "--target", "localhost:1") == commands.FAILED
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize(("speed", "waits"), [(0.0, []), (1.0, [1.0, 1.0, 1.0]), (4.0, [0.25, 0.25, 0.25])])
def test_the_pace_of_the_log_is_kept(log: Path, speed: float, waits: list[float]) -> None:
    now = 50.0
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        slept.append(seconds)

    sent = list(replaying.paced(calls(log), speed, clock=lambda: now, sleep=sleep))
    assert len(sent) == 4
    assert slept == waits


def test_requests_without_answers_are_compared_with_those_of_another_server_or_not_at_all(
    tmp_path: Path, doubling: ServedCore, tripling: ServedCore, log: Path, capsys: Any
) -> None:
    folder = version(tmp_path)
    assert run("warmup", log, folder) == 0
    alone = folder / "assets.extra" / "tf_serving_warmup_requests"
    capsys.readouterr()
    assert run("replay", alone, "--target", doubling.target) == commands.FAILED
    said = capsys.readouterr()
    assert said.out.splitlines()[2].split() == ["m", "Predict", "2", "0", "0", "0", "2"]
    assert "no answer was compared" in said.err
    assert run("replay", alone, "--target", doubling.target, "--diff", doubling.target) == 0
    assert run("replay", alone, "--target", doubling.target, "--diff", tripling.target) == 1


def test_the_latest_version_may_be_asked(tmp_path: Path, doubling: ServedCore) -> None:
    body = predict_request.encode(ModelSpec("m", version=3), {"x": np.ones(1, np.float32)})
    record = Record("Predict", ServableId("m", 3), "", body, b"", 1)
    (tmp_path / "log").write_bytes(framed(record.encoded(b"", ())))
    [call] = calls(tmp_path / "log")
    with Client(doubling.target) as client:
        replaying.Replay([client], replaying.Tolerance(), asks_latest=True)(call)
    assert [spec.WhichOneof("version_choice") for spec in call.model_specs] == [None]


# warmup


def version(tmp_path: Path, number: int = 1) -> Path:
    folder = tmp_path / "model" / str(number)
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"")
    return folder


def warmup_requests(folder: Path) -> list[Any]:
    with (folder / "assets.extra" / "tf_serving_warmup_requests").open("rb") as file:
        return [protos.PredictionLog.FromString(record) for record in records(file)]


def test_warmup_takes_one_request_of_each_kind_the_most_frequent_first(log: Path, tmp_path: Path, capsys: Any) -> None:
    folder = version(tmp_path)
    assert run("warmup", log, folder) == 0
    kinds = [made.WhichOneof("log_type") for made in warmup_requests(folder)]
    assert kinds == ["predict_log", "predict_log", "classify_log"]
    first = warmup_requests(folder)[0]
    assert first.predict_log.request.inputs["x"].tensor_shape.dim[0].size == 1
    assert not first.predict_log.HasField("response")
    assert not first.HasField("log_metadata")
    assert capsys.readouterr().out.splitlines()[1].split() == ["Predict", "serving_default", "2", f"{log}:1"]


def test_warmup_tells_scripts_what_it_took(log: Path, tmp_path: Path, capsys: Any) -> None:
    folder = version(tmp_path)
    assert run("warmup", log, folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert Path(found["file"]).name == "tf_serving_warmup_requests"
    first = {"method": "Predict", "signature": "serving_default", "like_it": 2, "record": f"{log}:1"}
    assert found["requests"][0] == first


def test_warmup_takes_no_more_than_it_may(log: Path, tmp_path: Path) -> None:
    folder = version(tmp_path)
    assert run("warmup", log, folder, "--max_records", 1) == 0
    assert len(warmup_requests(folder)) == 1


def test_a_base_path_means_its_newest_version(log: Path, tmp_path: Path) -> None:
    version(tmp_path, 9)
    newest = version(tmp_path, 10)
    assert run("warmup", log, tmp_path / "model") == 0
    assert len(warmup_requests(newest)) == 3


def test_warmup_that_has_nothing_to_write_leaves_the_file_that_was_there(
    log: Path, tmp_path: Path, capsys: Any
) -> None:
    folder = version(tmp_path)
    run("warmup", log, folder)
    assert run("warmup", log, folder, "--model", "n") == commands.FAILED
    assert "no file holds a request" in capsys.readouterr().err
    assert len(warmup_requests(folder)) == 3
    assert [path.name for path in (folder / "assets.extra").iterdir()] == ["tf_serving_warmup_requests"]


def test_a_folder_without_a_model_is_refused(log: Path, tmp_path: Path, capsys: Any) -> None:
    assert run("warmup", log, tmp_path) == commands.FAILED
    assert "holds neither a model nor versions of one" in capsys.readouterr().err


# predict, status, reload


def test_predict_prints_outputs_as_json(doubling: ServedCore, capsys: Any) -> None:
    assert run("predict", "m", '{"x": [1, 2.5], "words": ["a", {"b64": "/w=="}]}', "--target", doubling.target) == 0
    assert json.loads(capsys.readouterr().out) == {"y": [2.0, 5.0], "capitals": ["A", {"b64": "/w=="}]}


def test_predict_reads_a_file(doubling: ServedCore, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "inputs").write_text('{"x": [1]}')
    assert run("predict", "m", f"@{tmp_path}/inputs", "--output", "y", "--target", doubling.target) == 0
    assert json.loads(capsys.readouterr().out) == {"y": [2.0]}


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [("{", "INPUTS is no JSON"), ("[1]", "must be a JSON object"), ('{"x": [{"b": 1}]}', 'must be {"b64": "..."}')],
)
def test_predict_says_what_is_wrong_with_its_inputs(inputs: str, sentence: str, capsys: Any) -> None:
    assert run("predict", "m", inputs, "--target", "localhost:1") == commands.FAILED
    assert sentence in capsys.readouterr().err


def test_an_error_of_the_server_is_told_with_its_code(doubling: ServedCore, capsys: Any) -> None:
    assert run("predict", "n", "{}", "--target", doubling.target) == commands.FAILED
    assert capsys.readouterr().err == "pyserving predict: NOT_FOUND: Servable not found for request: Latest(n)\n"


def test_status_lists_versions_and_fails_where_none_serves(doubling: ServedCore, capsys: Any) -> None:
    doubling.core.states = [ServableState(ServableId("m", 12), ManagerState.AVAILABLE)]
    assert run("status", "m", "--target", doubling.target) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["version", "state", "error"],
        ["12", "AVAILABLE"],
    ]
    doubling.core.states = [ServableState(ServableId("m", 12), ManagerState.END)]
    assert run("status", "m", "--target", doubling.target) == 1


def test_status_in_json_is_for_scripts(doubling: ServedCore, capsys: Any) -> None:
    doubling.core.states = [ServableState(ServableId("m", 12), ManagerState.AVAILABLE)]
    assert run("status", "m", "--json", "--target", doubling.target) == 0
    assert json.loads(capsys.readouterr().out) == [{"version": 12, "state": "AVAILABLE", "error": ""}]


def test_reload_sends_a_file(doubling: ServedCore, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "models.config"
    file.write_text('model_config_list { config { name: "n" base_path: "/n" model_platform: "tensorflow" } }')
    assert run("reload", file, "--target", doubling.target) == 0
    assert capsys.readouterr().out == "Served: n\n"
    assert doubling.core.reloaded[-1].model_config_list.config[0].name == "n"


# tokens


@pytest.fixture(scope="module")
def guarded() -> Iterator[ServedCore]:
    """Doubles for those who show a token."""
    with ServedCore(TimesCore(2.0), authenticate=TokenCheck((Token(digest_of("s3cret")),))) as server:
        server.core.states = [ServableState(ServableId("m", 7), ManagerState.AVAILABLE)]
        yield server


def test_every_command_that_asks_a_server_shows_the_token_of_a_file(
    guarded: ServedCore, log: Path, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    (tmp_path / "models.config").write_text("model_config_list {}")
    for words in (
        ("predict", "m", '{"x": [1]}'),
        ("status", "m"),
        ("reload", tmp_path / "models.config"),
        ("replay", log),
        ("bench", "m", "--requests", 1, "--warmup", 0.001),
    ):
        assert run(*words, "--target", guarded.target) != 0
        assert "A token is needed" in "".join(capsys.readouterr())
        assert run(*words, "--target", guarded.target, "--token_file", tmp_path / "token") == 0
        assert "s3cret" not in "".join(capsys.readouterr())


def test_the_environment_may_hold_the_token(guarded: ServedCore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSERVING_TOKEN", "s3cret")
    assert run("status", "m", "--target", guarded.target) == 0


def test_a_file_that_holds_something_else_is_told(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "token").write_text("# mine\ns3cret\n")
    assert run("status", "m", "--target", "localhost:1", "--token_file", tmp_path / "token") == commands.FAILED
    assert capsys.readouterr().err.endswith("/token must hold one token and nothing else\n")


# tables


def test_tables_range_numbers_right() -> None:
    assert table(("name", "count"), [("a", "5"), ("long one", "12.5")]).splitlines() == [
        "name      count",
        "a             5",
        "long one   12.5",
    ]
