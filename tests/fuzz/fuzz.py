"""Coverage-guided fuzzing of what reads a client's bytes; README.md beside this says how it is run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from random import Random

import atheris

TARGETS = {
    "connection": ("pyserving.transports.http2", "tests.fuzz.connection", "play"),
    "hpack": ("pyserving.transports.http2.hpack", "tests.fuzz.hpack_blocks", "compare"),
    "timeouts": ("pyserving.transports.http2", "tests.fuzz.timeouts", "compare"),
    "predict": ("pyserving.codec", "tests.fuzz.predict_requests", "compare"),
}


def target(name: str) -> Callable[[bytes], None]:
    """Imported so that atheris sees which of our branches are taken."""
    instrumented, module, function = TARGETS[name]
    with atheris.instrument_imports(include=[instrumented]):
        run: Callable[[bytes], None] = getattr(import_module(module), function)
    return run


def sow(name: str, corpus: Path) -> None:
    """Inputs to begin with: neither a PredictRequest nor a conversation is found by chance."""
    from tests.codec.predict_requests import request
    from tests.fuzz.connection import busy_script
    from tests.fuzz.timeouts import script

    corpus.mkdir(parents=True, exist_ok=True)
    make = {"connection": busy_script, "timeouts": script, "predict": request}.get(name)
    if make is not None:
        for number in range(200):
            (corpus / f"seed-{number}").write_bytes(make(Random(number)))


def main(arguments: list[str]) -> None:
    """`arguments`: this script, the name of a target, the folder of its corpus, and libFuzzer's own."""
    script, name, corpus, *more = arguments
    run = target(name)
    sow(name, Path(corpus))
    atheris.Setup([script, *more, corpus], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
