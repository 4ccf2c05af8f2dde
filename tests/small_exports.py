"""Ten models with the signatures that public clients use, exported small by the benchmarks' exporter for all tests."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

EXPORTER = Path(__file__).parents[1] / "benchmarks" / "export_models.py"

NAMES = (
    "resnet50", "mobilenet_v2", "deeplab", "east", "bert_base", "text_classifier", "antispam_rnn", "dnn_classifier",
    "sparse_classifier", "wide_deep_ctr",
)  # fmt: skip


@cache
def exporter() -> ModuleType:
    """benchmarks/export_models.py, told to write tiny weights."""
    spec = importlib.util.spec_from_file_location("export_models", EXPORTER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["export_models"] = module
    spec.loader.exec_module(module)
    module.SMALL = True
    return module


def small_exports(folder: Path) -> None:
    """Each of NAMES in a folder of its own, with version 1."""
    for name in NAMES:
        exporter().MODELS[name](str(folder))
