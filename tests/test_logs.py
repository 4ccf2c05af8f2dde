"""Log lines, as text and as JSON."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator

import pytest

from pyserving.logs import configure


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    """Leaves the root logger as it was, pytest's own handlers included."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_text_line_has_time_level_and_short_name(capsys):
    configure("text", "info")
    logging.getLogger("pyserving.lifecycle.manager").warning("Lost %d of %s", 2, "m")

    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} W manager: Lost 2 of m", line)


def test_text_line_is_followed_by_its_exception(capsys):
    configure("text", "info")
    try:
        raise ZeroDivisionError("by nought")
    except ZeroDivisionError:
        logging.getLogger("pyserving.x").exception("Could not divide")

    text = capsys.readouterr().err
    assert "E x: Could not divide\nTraceback" in text
    assert text.endswith("ZeroDivisionError: by nought\n")


def test_json_line_is_one_object(capsys):
    configure("json", "info")
    logging.getLogger("pyserving.lifecycle.manager").info('Two\n"lines" of %s', "m")

    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert entry == {"level": "INFO", "logger": "pyserving.lifecycle.manager", "message": 'Two\n"lines" of m'}


def test_json_line_holds_its_exception(capsys):
    configure("json", "error")
    try:
        raise ZeroDivisionError("by nought")
    except ZeroDivisionError:
        logging.getLogger("pyserving.x").exception("Could not divide")

    entry = json.loads(capsys.readouterr().err)
    assert entry["message"] == "Could not divide"
    assert entry["exception"].endswith("ZeroDivisionError: by nought")


@pytest.mark.parametrize(("level", "shown"), [("debug", "DIWE"), ("info", "IWE"), ("warning", "WE"), ("error", "E")])
def test_level_is_the_least_that_is_shown(capsys, level, shown):
    configure("text", level)
    log = logging.getLogger("pyserving.x")
    for report in (log.debug, log.info, log.warning, log.error):
        report("here")

    assert [line.split()[2] for line in capsys.readouterr().err.splitlines()] == list(shown)


def test_second_configuration_replaces_the_first(capsys):
    configure("text", "info")
    configure("json", "info")
    logging.getLogger("pyserving.x").info("once")

    assert json.loads(capsys.readouterr().err)["message"] == "once"


@pytest.mark.parametrize(("level", "shown"), [("debug", "INFO"), ("info", "INFO"), ("error", "ERROR")])
def test_libraries_that_would_show_credentials_are_never_asked_for_details(level, shown):
    configure("text", level)

    for name in ("aiobotocore", "botocore", "fsspec", "s3fs"):
        assert logging.getLevelName(logging.getLogger(name).level) == shown
        logging.getLogger(name).setLevel(logging.NOTSET)
