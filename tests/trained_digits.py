"""The digits example's two versions, trained and exported once for all tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits"


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A script of the example, as its README has it run."""
    command = [sys.executable, str(DIGITS / script), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def trained_digits(folder: Path) -> None:
    """Versions 1 and 2 in `folder`, each right about more than 93 in 100 of the rows held back."""
    result = run("train.py", str(folder), "--versions", "1,2")
    assert result.returncode == 0, result.stderr
    assert [float(percent) > 93 for percent in re.findall(r"([\d.]+)% of 360", result.stdout)] == [True, True]
