"""A config file that is followed: what it says is the wish, and its mistakes touch nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pyserving.errors import NotFound
from pyserving.model_config_file import ModelConfigFile
from pyserving.types import ServableId
from pyserving.workers import Workers
from tests.test_server_core import Bench, config


def entry(name: str) -> str:
    return f'config {{ name: "{name}" base_path: "/{name}" model_platform: "tensorflow" }}'


def listing(*names: str) -> str:
    return f"model_config_list {{ {' '.join(map(entry, names))} }}"


def write(path: Path, content: str | None) -> None:
    """None: take the file away."""
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with Bench() as made:
        made.source.storage = {"m": [1], "n": [1]}
        await made.core.reload_config(config("m"))
        yield made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "models.config"
    path.write_text(listing("m"))
    return path


@pytest.fixture
async def file(bench: Bench, path: Path) -> AsyncIterator[ModelConfigFile]:
    """Looked once when it was entered, and looks again when the test says so."""
    async with Workers("config", 1) as reading, ModelConfigFile(str(path), 3600, bench.core, reading) as file:
        await asyncio.sleep(0)  # its own look begins,
        await file.look()  # and is over before this one
        yield file


async def test_a_changed_file_is_the_wish(bench: Bench, file: ModelConfigFile, path: Path) -> None:
    write(path, listing("n"))
    await file.look()
    assert bench.core.model_names == ["n"]
    await bench.monitor.wait_until(lambda: bench.manager.available_versions("n") == [1])


async def test_an_unchanged_file_changes_nothing(bench: Bench, file: ModelConfigFile, path: Path) -> None:
    wish = bench.core.config
    await file.look()
    write(path, f"# the same in other words\n{listing('m')}")
    await file.look()
    assert bench.core.config is wish


async def test_the_file_prevails_over_a_config_that_came_by_a_request(bench: Bench, file: ModelConfigFile) -> None:
    await file.look()
    await bench.core.reload_config(config("n"))
    await file.look()
    assert bench.core.model_names == ["m"]


@pytest.mark.proves("difference: `--model_config_file_poll_wait_seconds`")
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "Failed to read ModelServerConfig file: {path}; No such file or directory"),
        ("", "Failed to read ModelServerConfig file: {path}; Invalid argument"),
        ("model_config_list {", "Failed to read ModelServerConfig file: Invalid protobuf file: '{path}'"),
        (
            "# all commented out\n",
            "PollFilesystemAndReloadConfig failed to ReloadConfig: Cannot transition to requested config. It is only "
            "legal to transition from one ModelConfigList to another.",
        ),
        (
            listing("m", "m"),
            "PollFilesystemAndReloadConfig failed to ReloadConfig: Illegal to list model m multiple times in config "
            "list",
        ),
        (
            listing("m").replace("/m", "m"),
            "PollFilesystemAndReloadConfig failed to ReloadConfig: Expected model m to have an absolute path or URI; "
            "got base_path()=m",
        ),
    ],
)
async def test_a_bad_file_is_told_once_and_touches_nothing(
    bench: Bench,
    file: ModelConfigFile,
    path: Path,
    caplog: pytest.LogCaptureFixture,
    content: str | None,
    sentence: str,
) -> None:
    wish = bench.core.config
    write(path, content)
    for _ in range(3):
        await file.look()
    said = [record.getMessage() for record in caplog.records if record.name == "pyserving.model_config_file"]
    assert said == [sentence.format(path=path)]
    assert bench.core.config is wish
    assert await bench.predict() == 1
    write(path, listing("m", "n"))
    await file.look()
    assert bench.core.model_names == ["m", "n"], "and once it is mended it counts again"


async def test_a_file_that_comes_back_counts_again_and_is_missed_again(
    bench: Bench, file: ModelConfigFile, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sentence = f"Failed to read ModelServerConfig file: {path}; No such file or directory"
    for times in (1, 2):
        write(path, None)
        await file.look()
        await bench.core.reload_config(config("n"))
        await file.look()
        assert bench.core.model_names == ["n"]
        assert caplog.messages.count(sentence) == times
        write(path, listing("m"))
        await file.look()
        assert bench.core.model_names == ["m"]
        await file._reloading  # type: ignore[misc]


async def test_what_becomes_of_a_changed_file_is_logged(
    bench: Bench, file: ModelConfigFile, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench.broken[ServableId("n", 1)] = NotFound("no graph")
    write(path, listing("m", "n"))
    await file.look()
    await bench.monitor.wait_until(lambda: any(s.health for s in bench.monitor.versions("n")))
    await file._reloading  # type: ignore[misc]
    assert (
        "PollFilesystemAndReloadConfig failed to ReloadConfig: 1 model(s) did not become available: {{{name: n "
        "version: 1} due to error: NOT_FOUND: no graph}, } Models: m available, n failed"
    ) in caplog.messages
    assert await bench.predict() == 1


@pytest.mark.proves("difference: `--model_config_file_poll_wait_seconds`")
async def test_a_look_does_not_wait_for_a_model_that_does_not_come(
    bench: Bench, file: ModelConfigFile, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bench.source.settling = {"slow": {1: "variables are missing"}}
    write(path, listing("m", "slow"))
    await file.look()
    write(path, listing("m", "n"))
    await file.look()
    assert bench.core.model_names == ["m", "n"]
    await file._reloading  # type: ignore[misc]
    assert caplog.messages[-1] == "Finished adding/updating models"
    assert not any(record.levelno >= logging.WARNING for record in caplog.records)
