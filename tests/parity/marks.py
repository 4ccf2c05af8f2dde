"""The marks that tests bear, read out of their sources: nothing is imported, so it takes a moment and no TensorFlow."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Mark:
    """`@pytest.mark.NAME(*arguments, **keywords)` above a test."""

    test: str
    path: Path
    """Of the test's file, from the folder `tests`."""
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    @property
    def link(self) -> str:
        """For a page in the folder `docs`."""
        return f"[{self.test}](../tests/{self.path.as_posix()})"

    def gives(self, flag: str) -> bool:
        """Whether the test starts a real process, and its file has the flag on a command line."""
        is_written = re.search(rf"--(no)?{flag}\b", (TESTS / self.path).read_text())
        return self.path.parts[0] == "end_to_end" and is_written is not None


def marks(name: str, tests: Path = TESTS) -> list[Mark]:
    """All marks of that name, by file and line; ValueError where an argument is no literal."""
    found = []
    for path in sorted(tests.rglob("test_*.py")):
        source = path.read_text()
        if f"mark.{name}(" in source:
            found += _marks_in(ast.parse(source, str(path)), name, path.relative_to(tests))
    return found


def _marks_in(tree: ast.Module, name: str, path: Path) -> Iterator[Mark]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == f"pytest.mark.{name}":
                    arguments = tuple(ast.literal_eval(argument) for argument in decorator.args)
                    keywords = {str(word.arg): ast.literal_eval(word.value) for word in decorator.keywords}
                    yield Mark(node.name, path, arguments, keywords)
