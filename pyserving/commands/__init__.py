"""The command line: `pyserving FLAGS` serves, as `pyserving serve FLAGS` does; other first words do something else."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import NoReturn

from pyserving.errors import ServingError

COMMANDS: Mapping[str, str] = {
    "predict": "ask a server's model",
    "status": "show the versions of a server's model",
    "reload": "give a server another list of models",
    "inspect": "show what a model's folder holds, without TensorFlow",
    "replay": "send logged requests again, and compare the answers",
    "warmup": "make a model's warm-up requests of logged ones",
}
"""Each is a module of this package with `add_arguments(parser)` and `run(arguments)`, which gives the exit status."""

FAILED = 2
"""A command could not do its work. 1 is kept for work that was done and found something."""


def main() -> NoReturn:
    """The console script, and `python -m pyserving`."""
    words = sys.argv[1:]
    if words and words[0] in COMMANDS:
        sys.exit(run(words))
    if words == ["help"]:
        print(overview())
        sys.exit(0)
    from pyserving.main import main as serve  # which takes longer to import than most commands take

    serve(words[1:] if words[:1] == ["serve"] else words)


def overview() -> str:
    """What `pyserving help` prints."""
    rows = {"serve": "serve models; `pyserving --help` lists its flags", **COMMANDS}
    lines = [f"  {name:<8}  {text}" for name, text in rows.items()]
    return "\n".join(["usage: pyserving [command] ...", "", *lines, "", "pyserving COMMAND --help tells more."])


def run(words: Sequence[str]) -> int:
    """Carry out a command, the first of `words`, and give its exit status."""
    name = words[0]
    module = importlib.import_module(f"{__name__}.{name}")
    arguments = _parser(name, module).parse_args(words[1:])
    try:
        status: int = module.run(arguments)
    except ServingError as error:
        print(f"pyserving {name}: {error.status}", file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"pyserving {name}: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130
    return status


def _parser(name: str, module: ModuleType) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"pyserving {name}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    return parser
