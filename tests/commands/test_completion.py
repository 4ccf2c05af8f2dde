"""Scripts for shells, read by the shells themselves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pyserving import commands
from pyserving.commands.completion import SHELLS

COMPLETE = """
source {script}
COMP_WORDS=(pyserving {words})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_pyserving_flags pyserving "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def script(request: pytest.FixtureRequest, tmp_path: Path, capsys: Any) -> Path:
    assert commands.run(["completion", request.param]) == 0
    path = tmp_path / f"completion.{request.param}"
    path.write_text(capsys.readouterr().out)
    return path


@pytest.mark.parametrize("script", SHELLS, indirect=True)
def test_the_shell_can_read_it(script: Path) -> None:
    shell = script.suffix.removeprefix(".")
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("sta", {"status"}),
        ("re", {"reload", "replay"}),
        ("--model_na", {"--model_name="}),
        ("serve --rest_api_po", {"--rest_api_port="}),
        ("status --ti", {"--timeout"}),
        ("client m --language ''", {"curl", "python", "python-grpc", "go", "js", "java"}),
        ("completion ''", {"bash", "zsh", "fish"}),
    ],
)
@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_bash_offers_what_can_follow(script: Path, words: str, offered: set[str]) -> None:
    done = subprocess.run(["bash", "-c", COMPLETE.format(script=script, words=words)], capture_output=True, text=True)
    assert set(done.stdout.split()) == offered, done.stderr


@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_bash_offers_files_where_one_is_wanted(script: Path, tmp_path: Path) -> None:
    (tmp_path / "models.config").touch()
    program = COMPLETE.format(script=script, words=f"reload {tmp_path}/mod")
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == [f"{tmp_path}/models.config"]


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert commands.run(["completion", "bash"]) == commands.FAILED
    assert "pip install 'pyserving[completion]'" in capsys.readouterr().err
