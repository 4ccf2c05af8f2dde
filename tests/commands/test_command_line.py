"""What all commands have in common: help, examples, exit statuses, and errors of one line."""

from __future__ import annotations

import importlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pyserving import commands
from pyserving.codec.tf_record import framed
from pyserving.commands.progress import counted
from pyserving.request_log.record import Record
from pyserving.types import ServableId
from tests.end_to_end.server_process import ROOT

NOBODY = ("--target", "unix:/no/such/socket")


def run(*words: object) -> int:
    return commands.run([str(word) for word in words])


def help_of(name: str, capsys: Any) -> str:
    with pytest.raises(SystemExit) as left:
        run(name, "--help")
    assert left.value.code == 0
    return str(capsys.readouterr().out)


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_help_text_has_examples_and_exit_statuses(name: str, capsys: Any) -> None:
    text = help_of(name, capsys)
    assert text.startswith(f"usage: pyserving {name}")
    examples, statuses = text.split("\nexamples:\n")[1].split("\nexit status:\n")
    assert "pyserving " + name in examples
    assert [line.split()[0] for line in statuses.splitlines()] in (["0", "2"], ["0", "1", "2"])
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_argument_is_explained(name: str) -> None:
    parser = commands.parser(name, importlib.import_module(f"pyserving.commands.{name}"))
    unexplained = [action.dest for action in parser._actions if not action.help]
    assert unexplained == []


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_example_can_be_parsed(name: str) -> None:
    module = importlib.import_module(f"pyserving.commands.{name}")
    for example in module.EXAMPLES:
        command = re.search(rf"pyserving {name} ((?:'[^']*'|[^;>)])+)", example)
        assert command is not None, example
        assert commands.parser(name, module).parse_args(shlex.split(command[1]))


def test_the_overview_names_every_command() -> None:
    lines = commands.overview().splitlines()
    assert {"serve", *commands.COMMANDS} <= {line.split()[0] for line in lines if line}


@pytest.mark.parametrize(
    "words",
    [
        ("status", "m", *NOBODY),
        ("predict", "m", '{"x": 1}', *NOBODY),
        ("reload", "FILE", *NOBODY),
        ("client", "localhost:1/m", "--language", "go", "--timeout", "5"),
        ("client", "/no/such/folder", "--language", "go"),
        ("client", "FOLDER", "--language", "go"),
        ("bench", "m", *NOBODY),
        ("inspect", "/no/such/folder"),
        ("inspect", "FOLDER"),
        ("inspect", "FILE"),
        ("warmup", "FILE", "FOLDER"),
        ("predict", "m", "@FILE", *NOBODY),
        ("predict", "m", "@FOLDER", *NOBODY),
        ("reload", "BINARY", *NOBODY),
        ("predict", "m", "@BINARY", *NOBODY),
        ("replay", "BINARY", *NOBODY),
        ("replay", "LOG", *NOBODY),
        ("warmup", "BINARY", "FOLDER"),
        ("status", "m", "--ca_file", "/no/such/file"),
        ("bench", "m", "--rest", "--ca_file", "/no/such/file"),
        ("status", "m", "--cert_file", "FILE"),
        ("bench", "m", "--rest", "--key_file", "FILE"),
        ("status", "m", "--metadata", "a b=c"),
        ("bench", "m", "--rest", "--metadata", "a=ü"),
        ("bench", "m", "--rest", "--target", "http://localhost:8501"),
        ("bench", "m", "--rest", "--target", "localhost"),
        ("bench", "m", "--rest", *NOBODY),
        ("bench", "m", "--log", "BINARY", *NOBODY),
    ],
    ids=" ".join,
)
def test_what_cannot_be_done_is_told_in_one_line(words: tuple[str, ...], tmp_path: Path, capsys: Any) -> None:
    places = {
        "FILE": tmp_path / "file",
        "BINARY": tmp_path / "binary",
        "FOLDER": tmp_path / "folder",
        "LOG": tmp_path / "log",
    }
    places["FILE"].write_text("")
    places["BINARY"].write_bytes(b"\xff\xfe\x00 no text")
    places["FOLDER"].mkdir()
    places["LOG"].write_bytes(framed(Record("Predict", ServableId("m", 1), "", b"", b"", 1).encoded(b"", ())))
    spelled = [re.sub(r"FILE|BINARY|FOLDER|LOG", lambda found: str(places[found[0]]), word) for word in words]
    assert run(*spelled) == commands.FAILED
    said = capsys.readouterr().err
    assert said.startswith(f"pyserving {words[0]}: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("status", "m", "--version", "9223372036854775808"),
        ("predict", "m", "{}", "--version", "-1"),
        ("bench", "m", "--timeout", "0"),
        ("bench", "m", "--warmup", "-1"),
        ("status", "m", "--metadata", "a"),
        ("status",),
        ("client", "m", "--language", "cobol"),
    ],
    ids=" ".join,
)
def test_what_is_misspelled_is_told_with_the_usage(words: tuple[str, ...], capsys: Any) -> None:
    with pytest.raises(SystemExit) as left:
        run(*words)
    assert left.value.code == commands.FAILED
    assert capsys.readouterr().err.startswith(f"usage: pyserving {words[0]}")


def test_help_may_be_asked_for_a_command(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["pyserving", "help", "status"])
    with pytest.raises(SystemExit) as left:
        commands.main()
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("usage: pyserving status")


def test_a_word_that_is_no_command_is_told_and_serves_nothing(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["pyserving", "isnpect", "folder"])
    with pytest.raises(SystemExit) as left:
        commands.main()
    assert left.value.code == commands.FAILED
    assert capsys.readouterr().err == "pyserving: there is no command 'isnpect'; `pyserving help` lists them\n"


def test_a_reader_who_has_seen_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "pyserving", "completion", "bash"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal(monkeypatch: Any) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(counted("abc", "reading", 3)) == ["a", "b", "c"]
    assert "reading" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()


def test_progress_is_shown_nowhere_else(capsys: Any) -> None:
    assert list(counted("abc", "reading", 3)) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
