"""What operators do to the list of models, and what happens to its files, while a steady model answers: a table of
cases, each with the status text that is seen and not one failed request."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2

from tests import models
from tests.conftest import Exported
from tests.end_to_end.client_requests import outputs, predict_request, status_request
from tests.end_to_end.load import Load
from tests.end_to_end.server_process import Client, ServerProcess

pytestmark = pytest.mark.slow

STATES = {10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}
SECONDS = 120.0
X = {"x": np.array([1.0], np.float32)}


def half_plus_three(path: Path) -> None:
    models.half_plus_two(path, two=3.0)


@dataclass
class Bench:
    """A server with a model `steady` that is under load, and a folder for more models."""

    folder: Path
    source: Path
    server: ServerProcess
    client: Client
    load: Load

    def base_path(self, name: str) -> Path:
        return self.folder / name

    def copy(self, name: str, *versions: int, source: Path | None = None) -> Path:
        """Put whole versions into the base path of a model, each by one rename; the largest comes to rest first.

        All are copied before, so that a machine that is slow to copy shows none of them long before the others.
        """
        self.base_path(name).mkdir(parents=True, exist_ok=True)
        drafts = {version: self.folder / f"draft-{name}-{version}" for version in sorted(versions, reverse=True)}
        for draft in drafts.values():
            shutil.copytree(source or self.source, draft)
        for version, draft in drafts.items():
            draft.rename(self.base_path(name) / str(version))
        return self.base_path(name)

    def broken(self, name: str, version: int) -> Path:
        """A version without a MetaGraph that could be loaded."""
        folder = self.base_path(name) / str(version)
        folder.mkdir(parents=True)
        (folder / "saved_model.pbtxt").write_text("meta_graphs {}\n")
        return folder

    def entry(self, name: str, more: str = "", base_path: Path | None = None) -> str:
        return f'config {{ name: "{name}" base_path: "{base_path or self.base_path(name)}" {more or PLATFORM} }}'

    def listing(self, *entries: str) -> str:
        return f"model_config_list {{ {self.entry('steady')} {' '.join(entries)} }}"

    def reload(self, config: str, timeout: float = SECONDS, metric_names: tuple[str, ...] = ()) -> Any:
        """The response, or the status that failed."""
        request = model_management_pb2.ReloadConfigRequest(metric_names=metric_names)
        text_format.Parse(config, request.config)
        try:
            return self.client.model.HandleReloadConfigRequest(request, timeout=timeout)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"  # type: ignore[attr-defined]

    def status(self, name: str) -> dict[int, str]:
        """Version to its state, with the error where there is one."""
        response = self.client.model.GetModelStatus(status_request(name), timeout=SECONDS)
        return {
            entry.version: f"{STATES[entry.state]} {entry.status.error_message}".strip()
            for entry in response.model_version_status
        }

    def until(self, name: str, expected: Mapping[int, str]) -> None:
        """Wait for the last of the states, which the log does not tell in one line."""
        end = time.monotonic() + SECONDS
        while (seen := self.status(name)) != expected:
            assert time.monotonic() < end, (seen, expected)
            self.load.wait_for_answers(5)

    def ask(self, name: str, label: str | None = None) -> tuple[int, float]:
        """The version that answers, and what it makes of 1."""
        request = predict_request(name, X)
        if label is not None:
            request.model_spec.version_label = label
        response = self.client.prediction.Predict(request, timeout=SECONDS)
        return response.model_spec.version.value, float(outputs(response)["y"][0])


PLATFORM = 'model_platform: "tensorflow"'


@contextmanager
def serving(
    folder: Path, source: Path, *flags: str, more: Callable[[Bench], str] = lambda bench: ""
) -> Iterator[Bench]:
    """A Bench whose server is started with `flags` and a config file of `steady` and what `more` lists."""
    bench = Bench(folder, source, None, None, None)  # type: ignore[arg-type]
    bench.copy("steady", 1)
    (folder / "models.config").write_text(bench.listing(more(bench)))
    with ServerProcess(f"--model_config_file={folder}/models.config", *flags) as server, Client(server) as client:
        request = predict_request("steady", X)
        with Load(lambda: client.prediction.Predict.future(request, timeout=60)) as load:
            load.wait_for_answers(5)
            bench.server, bench.client, bench.load = server, client, load
            yield bench
            load.stop()
            assert load.failures == {}
            assert load.versions == [1]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, exported: Exported) -> Iterator[Bench]:
    """One server for the cases that need no flags of their own. It does not poll: it scans when it is sent a list."""
    folder = tmp_path_factory.mktemp("shared")
    with serving(folder, exported(models.half_plus_two), "--file_system_poll_wait_seconds=0") as bench:
        yield bench


# The table: a list that is sent, the answer, and the states that are seen afterwards. Each case has models of its own.


@dataclass(frozen=True)
class Case:
    entries: Callable[[Bench], str]
    answer: str
    """`OK`, or the status; `{folder}` stands for where the models are."""
    states: Mapping[str, Mapping[int, str]] = field(default_factory=dict)


def _add(bench: Bench) -> str:
    bench.copy("added", 1, 2)
    return bench.entry("added")


def _missing(bench: Bench) -> str:
    return bench.entry("missing")


def _empty_folder(bench: Bench) -> str:
    bench.base_path("empty").mkdir()
    return bench.entry("empty")


def _one_bad_of_three(bench: Bench) -> str:
    bench.copy("good1", 1)
    bench.copy("good2", 1)
    bench.broken("bad", 1)
    return bench.entry("good1") + bench.entry("bad") + bench.entry("good2")


def _latest_two(bench: Bench) -> str:
    bench.copy("latest", 1, 2, 10)
    return bench.entry("latest", f"{PLATFORM} model_version_policy {{ latest {{ num_versions: 2 }} }}")


def _all(bench: Bench) -> str:
    bench.copy("all", 1, 2, 10)
    return bench.entry("all", f"{PLATFORM} model_version_policy {{ all {{}} }}")


def _specific(bench: Bench) -> str:
    bench.copy("specific", 1, 2, 10)
    return bench.entry("specific", f"{PLATFORM} model_version_policy {{ specific {{ versions: 2 versions: 7 }} }}")


def _labelled(bench: Bench) -> str:
    bench.copy("labelled", 1, 2)
    return bench.entry("labelled", f'{PLATFORM} version_labels {{ key: "canary" value: 2 }}')


def _label_without_version(bench: Bench) -> str:
    bench.copy("mislabelled", 1)
    return bench.entry("mislabelled", f'{PLATFORM} version_labels {{ key: "canary" value: 9 }}')


def _by_model_type(bench: Bench) -> str:
    bench.copy("typed", 1)
    return bench.entry("typed", "model_type: TENSORFLOW")


NO_GRAPH = (
    "Could not find meta graph def matching supplied tags: { serve }. To inspect available tag-sets in the SavedModel, "
    "please use the SavedModel CLI: `saved_model_cli`"
)
NOT_FOUND_BASE = "FileSystemStoragePathSource encountered a filesystem access error: Could not find base path {folder}"

CASES = {
    "add a model": Case(_add, "OK", {"added": {2: "AVAILABLE"}}),
    "a list that is empty but for what serves": Case(lambda bench: "", "OK"),
    "a base path that is not there": Case(
        _missing,
        "UNKNOWN: 1 model(s) did not become available: {{{name: missing} due to error: NOT_FOUND: "
        + NOT_FOUND_BASE
        + "/missing for servable missing with error NOT_FOUND: {folder}/missing not found}, } "
        "Models: steady available, missing empty",
    ),
    "a base path without versions": Case(
        _empty_folder,
        "UNKNOWN: 1 model(s) did not become available: {{{name: empty} due to error: NOT_FOUND: No versions of "
        "servable empty found under base path {folder}/empty. Did you forget to name your leaf directory as a number "
        "(eg. '/1/')?}, } Models: steady available, empty empty",
    ),
    "one bad model of three": Case(
        _one_bad_of_three,
        "UNKNOWN: 1 model(s) did not become available: {{{name: bad version: 1} due to error: NOT_FOUND: "
        + NO_GRAPH
        + "}, } Models: steady available, good1 available, bad failed, good2 available",
        {"good1": {1: "AVAILABLE"}, "good2": {1: "AVAILABLE"}, "bad": {1: f"LOADING {NO_GRAPH}"}},
    ),
    "policy latest": Case(_latest_two, "OK", {"latest": {10: "AVAILABLE", 2: "AVAILABLE"}}),
    "policy all": Case(_all, "OK", {"all": {10: "AVAILABLE", 2: "AVAILABLE", 1: "AVAILABLE"}}),
    "policy specific": Case(_specific, "OK", {"specific": {2: "AVAILABLE"}}),
    "a label together with its version": Case(_labelled, "OK", {"labelled": {2: "AVAILABLE"}}),
    "a label on a version that does not come": Case(
        _label_without_version,
        "FAILED_PRECONDITION: Request to assign label to version 9 of model mislabelled, which is not currently "
        "available for inference",
        {"mislabelled": {1: "AVAILABLE"}},
    ),
    "the deprecated model_type": Case(_by_model_type, "OK", {"typed": {1: "AVAILABLE"}}),
    "a name listed twice": Case(
        lambda bench: bench.entry("twin") + bench.entry("twin"),
        "INVALID_ARGUMENT: Illegal to list model twin multiple times in config list",
    ),
    "a relative base path": Case(
        lambda bench: bench.entry("relative", base_path=Path("models/relative")),
        "INVALID_ARGUMENT: Expected model relative to have an absolute path or URI; got base_path()=models/relative",
    ),
    "a platform nobody knows": Case(
        lambda bench: bench.entry("other", 'model_platform: "other"'),
        "INVALID_ARGUMENT: Model other requests unsupported platform other",
    ),
    "no platform": Case(
        lambda bench: bench.entry("none", "version_labels {}"),
        "INVALID_ARGUMENT: Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
        "ModelServerConfig::model_platform, model name is none",
    ),
}


@pytest.mark.proves(
    "rpc ModelService.HandleReloadConfigRequest",
    "field ReloadConfigRequest.config",
    "field ModelServerConfig.model_config_list",
    "field ModelConfigList.config",
    "field ModelConfig.name",
    "field ModelConfig.base_path",
)
@pytest.mark.parametrize("name", CASES)
def test_a_list_is_sent(shared: Bench, name: str) -> None:
    case = CASES[name]
    answer = shared.reload(shared.listing(case.entries(shared)))
    said = answer if isinstance(answer, str) else "OK"
    assert said == case.answer.replace("{folder}", str(shared.folder))
    if not isinstance(answer, str):
        assert answer.status.error_code == 0
        assert answer.status.error_message == ""
    for model, states in case.states.items():
        shared.until(model, states)
    assert shared.load.failures == {}


@pytest.mark.parametrize("config", ["", "custom_model_config {}"])
def test_only_lists_can_be_sent(shared: Bench, config: str) -> None:
    assert shared.reload(config) == (
        "INVALID_ARGUMENT: ServerModelConfig type not supported by HandleReloadConfigRequest. "
        "Only ModelConfigList is currently supported"
    )


@pytest.mark.proves("field ModelConfig.model_platform")
def test_a_changed_platform_is_refused(shared: Bench) -> None:
    other = shared.listing().replace(PLATFORM, 'model_platform: "other"')
    assert shared.reload(other) == (
        "INVALID_ARGUMENT: Illegal to change a model's platform. For model steady platform was tensorflow and new "
        "platform requested is other"
    )


def test_a_removed_model_ends_and_can_come_back(shared: Bench) -> None:
    shared.copy("back", 1)
    with_it, without_it = shared.listing(shared.entry("back")), shared.listing()
    for _ in range(2):
        assert shared.reload(with_it).status.error_code == 0
        assert shared.status("back") == {1: "AVAILABLE"}
        assert shared.reload(without_it).status.error_code == 0
        shared.until("back", {1: "END"})


def test_a_model_can_move_to_another_base_path(shared: Bench) -> None:
    shared.copy("moved", 1)
    shared.copy("moved-there", 1, 2)
    shared.reload(shared.listing(shared.entry("moved")))
    request = predict_request("moved", X)
    with Load(lambda: shared.client.prediction.Predict.future(request, timeout=60)) as load:
        load.wait_for_answers(5)
        shared.reload(shared.listing(shared.entry("moved", base_path=shared.base_path("moved-there"))))
        load.wait_until(lambda: load.versions == [1, 2])
        load.stop()
        assert load.failures == {}


@pytest.mark.proves(
    "field ModelSpec.version_label",
    "field ModelConfig.version_labels",
    "difference: A label given together with its version",
)
def test_a_label_moves_without_a_failed_request(shared: Bench) -> None:
    shared.copy("blue-green", 1)
    policy = f"{PLATFORM} model_version_policy {{ latest {{ num_versions: %d }} }}"
    label = 'version_labels { key: "stable" value: %d }'
    listing = f"{policy} {label}"
    shared.reload(shared.listing(shared.entry("blue-green", listing % (1, 1))))
    request = predict_request("blue-green", X)
    request.model_spec.version_label = "stable"
    with Load(lambda: shared.client.prediction.Predict.future(request, timeout=60)) as load:
        load.wait_for_answers(10)
        shared.copy("blue-green", 2)  # and the label moves in the same reload, while the old version has to go
        assert shared.reload(shared.listing(shared.entry("blue-green", listing % (1, 2)))).status.error_code == 0
        load.wait_until(lambda: load.versions == [1, 2])
        load.wait_for_answers(10)
        load.stop()
        assert load.failures == {}
        assert load.versions == [1, 2]
    assert shared.reload(shared.listing(shared.entry("blue-green", listing % (1, 3)))) == (
        "FAILED_PRECONDITION: Request to assign label to version 3 of model blue-green, which is not currently "
        "available for inference"
    )
    assert shared.ask("blue-green", "stable") == (2, 2.5)


@pytest.mark.proves("difference: HandleReloadConfigRequest")
def test_the_same_list_tries_again_what_has_failed(shared: Bench) -> None:
    folder = shared.broken("mended", 1)
    listing = shared.listing(shared.entry("mended"))
    for _ in range(2):
        assert shared.reload(listing).startswith(
            "UNKNOWN: 1 model(s) did not become available: {{{name: mended version"
        )
    folder.rename(shared.folder / "set-aside")
    shared.copy("mended", 1)
    assert shared.reload(listing).status.error_code == 0
    assert shared.status("mended") == {1: "AVAILABLE"}


@pytest.mark.proves("difference: HandleReloadConfigRequest")
def test_a_reload_keeps_to_its_deadline_and_leaves_no_trace_of_its_wait(shared: Bench) -> None:
    folder = shared.copy("slow", 1) / "1"
    (folder / "variables" / "variables.data-00000-of-00001").unlink()
    began = time.monotonic()
    assert shared.reload(shared.listing(shared.entry("slow")), timeout=5.0) == (
        "DEADLINE_EXCEEDED: The deadline passed before every model was available. "
        "Models: steady available, slow pending"
    )
    assert time.monotonic() - began < 20
    assert shared.reload(shared.listing()).status.error_code == 0


def test_metrics_that_were_asked_for_come_with_their_increase(shared: Bench) -> None:
    shared.copy("metered", 1)
    names = ("/tensorflow/core/direct_session_runs", "/tensorflow/serving/nothing", "/tensorflow/serving/nothing")
    response = shared.reload(shared.listing(shared.entry("metered")), metric_names=names)
    increases = {metric.name: metric.int64_value_increase for metric in response.metric}
    assert len(response.metric) == len(increases) == 2
    assert increases["/tensorflow/serving/nothing"] == 0
    assert increases["/tensorflow/core/direct_session_runs"] > 0, "of the load, while the new model came to rest"


@pytest.mark.proves("difference: END entries in GetModelStatus")
def test_the_last_ten_versions_that_ended_are_remembered(shared: Bench) -> None:
    shared.copy("many", *range(1, 14))
    for version in range(1, 14):
        policy = f"{PLATFORM} model_version_policy {{ specific {{ versions: {version} }} }}"
        shared.reload(shared.listing(shared.entry("many", policy)))
        shared.server.wait_for(f"Successfully loaded servable version {{name: many version: {version}}}")
    shared.until("many", {13: "AVAILABLE"} | dict.fromkeys(range(12, 2, -1), "END"))


# Servers with flags of their own.


@pytest.mark.proves("difference: HandleReloadConfigRequest", "flag file_system_poll_wait_seconds")
def test_nothing_hangs_without_any_polling(tmp_path: Path, exported: Exported) -> None:
    with serving(tmp_path, exported(models.half_plus_two), "--file_system_poll_wait_seconds=-1") as bench:
        bench.copy("added", 1)
        assert bench.reload(bench.listing(bench.entry("added"))).status.error_code == 0
        assert bench.ask("added") == (1, 2.5)
        assert bench.reload(bench.listing(bench.entry("missing"))).startswith("UNKNOWN")
        bench.load.stop()  # now it goes, too
        assert bench.reload("model_config_list {}").status.error_code == 0
        bench.server.wait_for("Done unloading servable version {name: steady version: 1}")
        assert bench.status("steady") == {1: "END"}
        assert bench.reload(bench.listing()).status.error_code == 0
        assert bench.ask("steady") == (1, 2.5)


@pytest.mark.proves("flag model_config_file_poll_wait_seconds")
def test_a_config_file_is_followed(tmp_path: Path, exported: Exported) -> None:
    with serving(tmp_path, exported(models.half_plus_two), "--model_config_file_poll_wait_seconds=1") as bench:
        file = tmp_path / "models.config"
        bench.copy("added", 1)
        file.write_text(bench.listing(bench.entry("added")))
        bench.server.wait_for("Successfully loaded servable version {name: added version: 1}")
        for content, sentence in {
            "": f"Failed to read ModelServerConfig file: {file}; Invalid argument",
            "model_config_list {": f"Failed to read ModelServerConfig file: Invalid protobuf file: '{file}'",
            "# nothing": "PollFilesystemAndReloadConfig failed to ReloadConfig: Cannot transition to requested config.",
            bench.listing(bench.entry("steady")): (
                "PollFilesystemAndReloadConfig failed to ReloadConfig: Illegal to list model steady multiple times"
            ),
        }.items():
            file.write_text(content)
            bench.server.wait_for(sentence)
        assert bench.ask("added") == (1, 2.5)
        bench.copy("by-request", 1)
        assert bench.reload(bench.listing(bench.entry("by-request"))).status.error_code == 0
        file.write_text(bench.listing(bench.entry("added")))
        bench.server.wait_for("Done unloading servable version {name: by-request version: 1}")
        bench.until("added", {1: "AVAILABLE"})


@pytest.mark.proves(
    "difference: A load failed, then the files are mended under the same number",
    "difference: A label on a version that does not come",
    "flag incomplete_version_timeout_seconds",
)
def test_labels_and_bad_models_at_start_and_what_mends_them(tmp_path: Path, exported: Exported) -> None:
    def more(bench: Bench) -> str:
        bench.copy("labelled", 1)
        bench.broken("bad", 1)
        labels = 'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 9 }'
        return bench.entry("labelled", f"{PLATFORM} {labels}") + bench.entry("bad")

    flags = ("--max_num_load_retries=0", "--incomplete_version_timeout_seconds=1")
    with serving(tmp_path, exported(models.half_plus_two), *flags, more=more) as bench:
        bench.server.wait_for("Request to assign label to version 9 of model labelled")
        assert bench.ask("labelled", "stable") == (1, 2.5)
        assert bench.status("bad") == {1: f"END {NO_GRAPH}"}
        # Its files are mended under the same number, and it is tried again by itself.
        shutil.copytree(exported(models.half_plus_two), tmp_path / "bad" / "1", dirs_exist_ok=True)
        bench.server.wait_for("Successfully loaded servable version {name: bad version: 1}")
        assert bench.ask("bad") == (1, 2.5)
        # A shard cut short under a new number: it fails, and the old one serves on.
        cut = bench.folder / "cut"
        shutil.copytree(exported(models.half_plus_two), cut)
        shard = cut / "variables" / "variables.data-00000-of-00001"
        shard.write_bytes(shard.read_bytes()[:-1])
        cut.rename(tmp_path / "steady" / "2")
        bench.server.wait_for("Giving up loading servable version {name: steady version: 2}")
        assert bench.status("steady")[2].startswith("END "), bench.status("steady")
        assert len(bench.status("steady")[2]) > 20
        # Storage is lost: what serves is kept, and told.
        (tmp_path / "bad").rename(tmp_path / "lost")
        bench.server.wait_for("Could not find base path")
        assert bench.ask("bad") == (1, 2.5)


@pytest.mark.proves("difference: A version is replaced in place under the same number")
def test_a_version_that_waits_for_its_next_try_does_not_wait_once_it_is_mended(
    tmp_path: Path, exported: Exported
) -> None:
    with serving(tmp_path, exported(models.half_plus_two)) as bench:
        bench.broken("mended", 1)
        assert bench.reload(bench.listing(bench.entry("mended"))).startswith("UNKNOWN")
        assert bench.status("mended") == {1: f"LOADING {NO_GRAPH}"}
        began = time.monotonic()
        shutil.copytree(exported(models.half_plus_two), tmp_path / "mended" / "1", dirs_exist_ok=True)
        bench.server.wait_for("Successfully loaded servable version {name: mended version: 1}")
        assert time.monotonic() - began < 50, "the next try was 60 seconds away"
        # A version that serves is replaced: without the flag that is told, and no more.
        replacement = exported(half_plus_three)
        shutil.copytree(replacement, tmp_path / "mended" / "1", dirs_exist_ok=True)
        bench.server.wait_for("Files of servable version {name: mended version: 1} changed under the same number", 2)
        assert bench.ask("mended") == (1, 2.5)


@pytest.mark.proves(
    "difference: A version is replaced in place under the same number",
    "difference: Giving memory up before a new version takes it",
    "flag reload_replaced_versions",
    "flag aspired_version_policy",
)
def test_replaced_versions_are_loaded_anew_when_asked_for(tmp_path: Path, exported: Exported) -> None:
    flags = ("--reload_replaced_versions", "--aspired_version_policy=resource_preserving")
    with serving(tmp_path, exported(models.half_plus_two), *flags) as bench:
        shutil.copytree(exported(half_plus_three), tmp_path / "steady" / "1", dirs_exist_ok=True)
        bench.server.wait_for("Successfully loaded servable version {name: steady version: 1}", 2)
        bench.server.wait_for("Done unloading servable version {name: steady version: 1}")
        assert bench.ask("steady") == (1, 3.5)
        assert bench.status("steady") == {1: "AVAILABLE"}
        # The policy: the old version is gone before the new one loads.
        bench.copy("swapped", 1)
        bench.reload(bench.listing(bench.entry("swapped")))
        bench.copy("swapped", 2)
        bench.server.wait_for("Successfully loaded servable version {name: swapped version: 2}")
        lines = "\n".join(bench.server.lines)
        assert lines.index("Done unloading servable version {name: swapped version: 1}") < lines.index(
            "Loading servable version {name: swapped version: 2}"
        )
