"""Time `import pyserving.protos` and the first use of PredictRequest, each time in a fresh process.

    python benchmarks/bench_import_protos.py [REPEATS]

Prints the median and the range in milliseconds: the import by itself, and the whole process less a bare interpreter.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

ROOT = Path(__file__).resolve().parent.parent
IMPORT = """
from time import perf_counter
start = perf_counter()
from pyserving import protos
protos.PredictRequest()
print((perf_counter() - start) * 1e3)
import sys
assert "tensorflow" not in sys.modules
"""


def process(code: str) -> tuple[float, str]:
    """Milliseconds that a fresh interpreter takes for the code, and what it prints."""
    start = perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return (perf_counter() - start) * 1e3, done.stdout


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    imports, processes = [], []
    for _ in range(repeats):
        bare, _ = process("")
        whole, printed = process(IMPORT)
        imports.append(float(printed))
        processes.append(whole - bare)
    for name, values in (("import", imports), ("process", processes)):
        print(f"{name:8} median {median(values):6.1f} ms   {min(values):6.1f} .. {max(values):6.1f}   of {repeats}")


if __name__ == "__main__":
    main()
