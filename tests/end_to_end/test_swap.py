"""Versions come and go under fifty requests a second, and no request is lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import models
from tests.conftest import Exported
from tests.end_to_end.client_requests import predict_request, status_request
from tests.end_to_end.load import Load
from tests.end_to_end.server_process import Client, ServerProcess

pytestmark = pytest.mark.slow

MODELS = ("swapped", "lost", "broken")
"""Of one server, one for each test."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, exported: Exported) -> Path:
    made = tmp_path_factory.mktemp("served")
    for name in MODELS:
        shutil.copytree(exported(models.half_plus_two), made / name / "1")
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" }}\n' for name in MODELS
    )
    (folder / "models.config").write_text(f"model_config_list {{\n{entries}}}\n")
    with ServerProcess(f"--model_config_file={folder}/models.config") as made:
        yield made


@pytest.fixture
def base_path(folder: Path, name: str) -> Path:
    return folder / name


@pytest.fixture
def load(server: ServerProcess, name: str) -> Iterator[Load]:
    request = predict_request(name, {"x": np.array([1.0, 2.0, 5.0], np.float32)})
    with Client(server) as client, Load(lambda: client.prediction.Predict.future(request, timeout=60)) as made:
        made.wait_for_answers(10)
        yield made


def copy_file_by_file(load: Load, source: Path, target: Path) -> None:
    """As a slow copy does it: the graph first, then half of each variable file, then the rest."""
    files = sorted(path for path in source.rglob("*") if path.is_file())
    files.sort(key=lambda path: path.name != "saved_model.pb")
    for path in files:
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        data = path.read_bytes()
        with copy.open("wb", buffering=0) as out:
            out.write(data[: len(data) // 2])
            load.wait_for_answers(40)  # the rest of the file lets itself be waited for
            out.write(data[len(data) // 2 :])


@pytest.mark.parametrize("name", ["swapped"])
def test_a_new_version_takes_over_and_leaves_again(
    server: ServerProcess, load: Load, base_path: Path, exported: Exported
) -> None:
    copy_file_by_file(load, exported(models.half_plus_two), base_path / "2")
    load.wait_until(lambda: load.versions == [1, 2])
    server.wait_for("Done unloading servable version {name: swapped version: 1}")
    shutil.move(base_path / "2", base_path.parent / "2")
    load.wait_until(lambda: load.versions == [1, 2, 1])
    load.wait_for_answers(20)
    load.stop()
    assert load.failures == {}
    assert load.versions == [1, 2, 1]


@pytest.mark.proves("difference: A base path vanishes, empties, or cannot be listed")
@pytest.mark.parametrize("name", ["lost"])
def test_a_base_path_that_goes_away_or_empties_changes_nothing(
    server: ServerProcess, load: Load, base_path: Path, exported: Exported
) -> None:
    base_path.rename(base_path.with_name("gone"))
    server.wait_for(f"Could not find base path {base_path}")
    load.wait_for_answers(100)
    base_path.mkdir()
    server.wait_for("No versions of servable lost found under base path")
    load.wait_for_answers(100)
    base_path.rmdir()
    base_path.with_name("gone").rename(base_path)
    shutil.copytree(exported(models.half_plus_two), base_path / "2")
    load.wait_until(lambda: load.versions == [1, 2])
    load.stop()
    assert load.failures == {}


@pytest.mark.parametrize("name", ["broken"])
def test_a_broken_new_version_leaves_the_old_one_serving(server: ServerProcess, load: Load, base_path: Path) -> None:
    broken = base_path / "2"
    broken.mkdir()
    (broken / "saved_model.pbtxt").write_text("meta_graphs {}\n")
    server.wait_for("Attempt 1 to load servable version {name: broken version: 2} failed")
    load.wait_for_answers(20)
    load.stop()
    assert load.failures == {}
    assert load.versions == [1]
    with Client(server) as client:
        newest, old = client.model.GetModelStatus(status_request("broken"), timeout=30).model_version_status
    assert (newest.version, newest.state) == (2, 20), "LOADING: it is going to be tried again"
    assert newest.status.error_code == 5
    assert newest.status.error_message.startswith("Could not find meta graph def matching supplied tags: { serve }")
    assert (old.version, old.state) == (1, 30)
