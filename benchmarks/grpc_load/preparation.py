"""What must stand before a load: built tools, exported models, requests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.grpc_load.models import Model
from benchmarks.grpc_load.servers import ROOT, ServerFailed

MODELS = Path(tempfile.gettempdir(), "pyserving-benchmark-models")
"""Where models are exported to, once for all runs."""
_BUILT = ROOT / ".bench"


def built(name: str) -> Path:
    """The program that `benchmarks/NAME/build.sh` makes, made anew when its sources are newer.

    Raises ServerFailed with what the compiler said.
    """
    folder, binary = ROOT / "benchmarks" / name, _BUILT / name / name
    newest = max(source.stat().st_mtime for source in folder.iterdir())
    if binary.exists() and binary.stat().st_mtime >= newest:
        return binary
    print(f"Building {binary.name}", flush=True)
    done = subprocess.run(["sh", str(folder / "build.sh"), str(binary.parent)], capture_output=True, text=True)
    if done.returncode:
        raise ServerFailed(f"{folder}/build.sh, which tells what it needs, has failed: {done.stderr.strip()[-500:]}")
    return binary


def models(folder: Path, names: Sequence[str]) -> dict[str, Model]:
    """Exported and described in a process of its own, which imports TensorFlow. Raises ServerFailed."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.grpc_load.models", str(folder), *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
    )
    if done.returncode:
        raise ServerFailed(f"models were not exported: {done.stderr[-1000:]}")
    described = json.loads(done.stdout.splitlines()[-1])
    return {name: Model(**fields) for name, fields in described.items()}
