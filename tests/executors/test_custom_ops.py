"""Libraries and modules with ops of one's own: what cannot be had is named."""

from __future__ import annotations

import sys

import pytest

from pyserving.errors import FailedPrecondition
from pyserving.executors.custom_ops import bring_in


@pytest.fixture
def module(tmp_path, monkeypatch):
    """`module(name, source)` can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    written = []

    def write(name: str, source: str) -> str:
        (tmp_path / f"{name}.py").write_text(source)
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


def test_modules_are_imported_in_their_order(module):
    first = module("custom_ops_first", "imported = []")
    second = module("custom_ops_second", "import custom_ops_first; custom_ops_first.imported.append(__name__)")
    bring_in([], [first, second])
    assert sys.modules[first].imported == [second]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named(module, source, reason):
    with pytest.raises(FailedPrecondition) as caught:
        bring_in([], [module("custom_ops_broken", source)])
    assert caught.value.message == f"--import_modules: custom_ops_broken: {reason}"


def test_a_library_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FailedPrecondition, match=rf"^--custom_op_libraries: {tmp_path}/ops\.so: .*No such file"):
        bring_in([f"{tmp_path}/ops.so"], [])


def test_a_library_that_is_none_is_named(tmp_path):
    (tmp_path / "ops.so").write_text("no library")
    with pytest.raises(FailedPrecondition, match=rf"^--custom_op_libraries: {tmp_path}/ops\.so: "):
        bring_in([f"{tmp_path}/ops.so"], [])
