"""The map of imports: a module imports from lower floors, never upward, and a few may import less than that.

ARCHITECTURE.md tells why; here is the map itself. A type is an arrow too, so imports under TYPE_CHECKING count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pyserving"

FLOORS: list[list[str]] = [
    [
        "errors",
        "types",
        "signature",
        "messages",
        "metric_family",
        "metrics",
        "protos",
        "workers",
        "loop_time",
        "machine",
        "spare_time",
    ],
    ["lifecycle", "batching", "codec", "core", "inference", "outcome", "model_config"],
    [
        "sources",
        "executors",
        "session",
        "loop_batches",
        "batch_request",
        "batch_flight",
        "batch_lane",
        "batching_session",
        "servable",
        "warmup",
        "loader",
        "request_log",
    ],
    ["server_core"],
    ["frontends", "transports", "client"],
    [
        "options",
        "config",
        "session_bundle_config",
        "platforms",
        "model_config_file",
        "followed_file",
        "ssl_config_file",
        "auth_tokens_file",
        "logs",
        "listeners",
        "model_metrics",
        "source_adapter",
        "storage_path_source",
        "model_server",
        "asgi",
        "main",
        "commands",
        "__main__",
    ],
]
"""The units, modules and packages, of each floor. A unit's own files may always import one another."""

FLOOR_OF = {unit: number for number, units in enumerate(FLOORS) for unit in units}
MAY_IMPORT_ANY_OF_THEIR_FLOOR = [*FLOORS[0], *FLOORS[5]]
MAY_IMPORT_WHAT_STANDS_BEFORE_THEM = [
    "session",
    "loop_batches",
    "batch_request",
    "batch_flight",
    "batch_lane",
    "batching_session",
    "servable",
    "warmup",
    "loader",
]
MAY_IMPORT_ONLY = {
    "inference": {*FLOORS[0], "codec", "core"},  # handed a core
    "frontends": {*FLOORS[0], "codec", "core", "inference"},  # handed a core
    "transports": {"messages", "errors"},  # carry bytes
    "client": {"errors", "protos", "signature", "types", "codec"},  # quick to import, in processes that are no server
}
FRAMEWORKS = {"tensorflow", "ai_edge_litert", "keras", "tensorflow_text", "ydf_tf"}
MAY_IMPORT_FRAMEWORKS = FLOORS[2]


def allowed(unit: str) -> set[str]:
    """Units that the files of `unit` may import."""
    if unit in MAY_IMPORT_ONLY:
        return MAY_IMPORT_ONLY[unit] | {unit}
    floor = FLOORS[FLOOR_OF[unit]]
    below = {lower for units in FLOORS[: FLOOR_OF[unit]] for lower in units}
    if unit in MAY_IMPORT_ANY_OF_THEIR_FLOOR:
        return below | {*floor}
    if unit in MAY_IMPORT_WHAT_STANDS_BEFORE_THEM:
        return below | {*floor[: floor.index(unit) + 1]}
    return below | {unit}


def departures(package: Path) -> list[str]:
    """One line for each file that has no floor and each arrow that is not on the map."""
    found = []
    for path in sorted(package.rglob("*.py")):
        file = path.relative_to(package)
        unit = file.parts[0].removesuffix(".py")
        if unit in FLOOR_OF:
            imports = set(imported_modules(ast.parse(path.read_text()), [package.name, *file.parts]))
            found += [f"{file} (floor {FLOOR_OF[unit]}) -> {end}" for end in wrong_ends(unit, imports)]
        elif unit != "__init__":
            found.append(f"{file}: give it a floor")
    return found


def wrong_ends(unit: str, imports: set[str]) -> list[str]:
    """Where the arrows end that the files of `unit` may not have."""
    ours = {target for target in map(target_unit, imports) if target}
    ends = [f"{wrong} (floor {FLOOR_OF.get(wrong, '?')})" for wrong in sorted(ours - allowed(unit))]
    if unit not in MAY_IMPORT_FRAMEWORKS:
        frameworks = {module.split(".")[0] for module in imports} & FRAMEWORKS
        ends += [f"{framework} (a framework)" for framework in sorted(frameworks)]
    return ends


def imported_modules(tree: ast.Module, parts: list[str]) -> Iterator[str]:
    """Full names (`pyserving.errors`, `pyserving.errors.NotFound`) of all that the file at `parts` imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = parts[: -node.level] if node.level else []
            origin = ".".join([*package, *filter(None, [node.module])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def target_unit(module: str) -> str | None:
    """The unit that an imported name lies in; None outside the package and for the package's own names."""
    package, _, rest = module.partition(".")
    unit = rest.split(".")[0]
    return unit if package == PACKAGE.name and unit not in ("", "__version__") else None


def test_every_import_follows_the_map() -> None:
    found = departures(PACKAGE)
    assert not found, "\n".join(["imports depart from the map of floors:", *found])


@pytest.fixture
def house(tmp_path: Path) -> Path:
    package = tmp_path / "pyserving"
    package.mkdir()
    (package / "__init__.py").write_text('__version__ = "0"\n')
    return package


def build(house: Path, file: str, source: str) -> None:
    path = house / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("types.py", "from pyserving.errors import ServingError"),
        (
            "lifecycle/manager.py",
            "from pyserving.lifecycle.harness import State\nfrom . import policy\nfrom ..types import x",
        ),
        ("servable.py", "from pyserving import protos, session, __version__\nimport pyserving.codec.tensor_proto"),
        (
            "frontends/rest_api.py",
            "from pyserving.codec import json_tensor\nfrom pyserving.frontends import http_status",
        ),
        ("executors/tf_session.py", "import tensorflow as tf"),
        ("model_server.py", "from pyserving.server_core import ServerCore\nfrom pyserving.options import Options"),
    ],
)
def test_arrows_on_the_map_pass(house: Path, file: str, source: str) -> None:
    build(house, file, source)
    assert departures(house) == []


@pytest.mark.parametrize(
    ("file", "source", "departure"),
    [
        ("errors.py", "from pyserving import server_core", "errors.py (floor 0) -> server_core (floor 3)"),
        ("codec/examples.py", "import pyserving.lifecycle", "codec/examples.py (floor 1) -> lifecycle (floor 1)"),
        ("session.py", "from .servable import Servable", "session.py (floor 2) -> servable (floor 2)"),
        (
            "frontends/health.py",
            "if TYPE_CHECKING:\n    from ..server_core import ServerCore",
            "frontends/health.py (floor 4) -> server_core (floor 3)",
        ),
        (
            "transports/http1/server.py",
            "from ...metrics import M",
            "transports/http1/server.py (floor 4) -> metrics (floor 0)",
        ),
        (
            "inference/classify.py",
            "def f():\n    import tensorflow.io",
            "inference/classify.py (floor 1) -> tensorflow (a framework)",
        ),
        ("utils.py", "", "utils.py: give it a floor"),
        ("errors.py", "from pyserving import utils", "errors.py (floor 0) -> utils (floor ?)"),
    ],
)
def test_arrows_off_the_map_are_named(house: Path, file: str, source: str, departure: str) -> None:
    build(house, file, source)
    assert departures(house) == [departure]
