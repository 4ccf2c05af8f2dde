"""Packages that bring missing ops, with modules and a registry of the test's own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tensorflow.core.framework import graph_pb2

from pyserving.executors.op_packages import any_to_import, import_missing_ops
from pyserving.executors.saved_model import op_types


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Modules fake_text and fake_forests, each of which registers an op when it is imported, and a broken one."""
    monkeypatch.syspath_prepend(tmp_path)
    for name, body in {
        "fake_registry": "ops = {'Add'}",
        "fake_text": "import fake_registry; fake_registry.ops.add('Tokenize')",
        "fake_forests": "import fake_registry; fake_registry.ops.add('Forest')",
        "fake_broken": "raise OSError('undefined symbol: _ZN10tensorflow')",
    }.items():
        (tmp_path / f"{name}.py").write_text(body)
    yield {"fake_forests": "Forest", "no_such_package": "", "fake_text": ""}
    for name in [name for name in sys.modules if name.startswith("fake_")]:
        del sys.modules[name]


def is_registered(op: str) -> bool:
    import fake_registry

    return op in fake_registry.ops


def graph(*ops: str, in_function: str | None = None, function: str = "f") -> set[str]:
    """The op types of such a graph."""
    graph_def = graph_pb2.GraphDef()
    for i, op in enumerate(ops):
        graph_def.node.add(name=f"n{i}", op=op)
    if in_function:
        library_function = graph_def.library.function.add()
        library_function.signature.name = function
        library_function.node_def.add(name="inner", op=in_function)
    return op_types(memoryview(graph_def.SerializeToString()))


def imported() -> set[str]:
    return {name for name in sys.modules if name.startswith("fake_")} - {"fake_registry"}


def test_nothing_is_imported_when_nothing_is_missing(packages):
    import_missing_ops(graph("Add"), packages, is_registered)
    assert imported() == set()


@pytest.mark.proves("difference: TensorFlow Text and decision-forest ops")
@pytest.mark.parametrize(("op", "package"), [("Tokenize", "fake_text"), ("Forest", "fake_forests")])
def test_only_the_package_that_helps_is_imported(packages, op, package):
    import_missing_ops(graph("Add", op), packages, is_registered)
    assert imported() == {package}
    assert is_registered(op)


def test_several_packages_may_be_needed(packages):
    import_missing_ops(graph("Forest", "Tokenize"), packages, is_registered)
    assert imported() == {"fake_text", "fake_forests"}


def test_ops_inside_functions_count(packages):
    import_missing_ops(graph("Add", in_function="Tokenize"), packages, is_registered)
    assert imported() == {"fake_text"}


def test_calls_of_the_graphs_own_functions_are_no_missing_ops(packages):
    import_missing_ops(graph("f", in_function="Add", function="f"), packages, is_registered)
    assert imported() == set()


def test_a_package_that_cannot_be_imported_is_passed_over(packages, caplog):
    import_missing_ops(graph("Tokenize"), {"fake_broken": "Token", **packages}, is_registered)
    assert is_registered("Tokenize")
    assert "Could not import fake_broken: undefined symbol" in caplog.text


def test_tensorflows_own_ops_are_in_the_real_registry(packages):
    import_missing_ops(graph("MatMul", "ParseExampleV2"), packages)
    assert imported() == set()


def test_an_op_of_nobody_is_not_in_the_real_registry(packages):
    import_missing_ops(graph("Tokenize"), packages)
    assert imported() == {"fake_text"}


def test_ops_are_asked_for_only_while_a_package_could_still_help(packages):
    assert any_to_import(packages)
    assert not any_to_import({"no_such_package": "", "sys": ""})
    import_missing_ops(graph("Forest", "Tokenize"), packages, is_registered)
    assert not any_to_import(packages)
