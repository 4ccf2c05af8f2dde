"""The command line: `pyserving FLAGS` serves, as `pyserving serve FLAGS` does; other first words do something else."""

from __future__ import annotations

import argparse
import importlib
import os
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
    "client": "write a program that asks a model, in one of six languages",
    "bench": "load a server's model with requests, and measure the answers",
    "replay": "send logged requests again, and compare the answers",
    "warmup": "make a model's warm-up requests of logged ones",
    "completion": "write the script by which a shell completes commands",
}
"""Each is a module of this package with `EXAMPLES`, `add_arguments(parser)` and `run(arguments)`, which gives the exit
status. One that may give 1 says with `FINDING` what that means."""

FAILED = 2
"""A command could not do its work. 1 is kept for work that was done and found something."""
_INTERRUPTED = 130
_READER_GONE = 141
"""As a shell has it for SIGINT and SIGPIPE."""


def main() -> NoReturn:
    """The console script, and `python -m pyserving`."""
    words = sys.argv[1:]
    if words == ["help"]:
        print(overview())
        sys.exit(0)
    if words[:1] == ["help"]:
        words = [words[1], "--help"]
    if words and words[0] in COMMANDS:
        sys.exit(run(words))
    if words and words[0] != "serve" and words[0][:1].isalpha():
        print(f"pyserving: there is no command {words[0]!r}; `pyserving help` lists them", file=sys.stderr)
        sys.exit(FAILED)
    from pyserving.main import main as serve  # which takes longer to import than most commands take

    serve(words[1:] if words[:1] == ["serve"] else words)


def overview() -> str:
    """What `pyserving help` prints."""
    rows = {"serve": "serve models; `pyserving --help` lists its flags", **COMMANDS}
    width = max(map(len, rows))
    lines = [f"  {name:<{width}}  {text}" for name, text in rows.items()]
    return "\n".join(["usage: pyserving [command] ...", "", *lines, "", "pyserving COMMAND --help tells more."])


def run(words: Sequence[str]) -> int:
    """Carry out a command, the first of `words`, and give its exit status."""
    name = words[0]
    module = importlib.import_module(f"{__name__}.{name}")
    arguments = parser(name, module).parse_args(words[1:])
    try:
        status: int = module.run(arguments)
        sys.stdout.flush()
    except ServingError as error:
        return _failed(name, error.status)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE
    except OSError as error:
        return _failed(name, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        return _INTERRUPTED
    return status


def _failed(name: str, why: str) -> int:
    print(f"pyserving {name}: {' '.join(why.split())}", file=sys.stderr)
    return FAILED


def parser(name: str, module: ModuleType) -> argparse.ArgumentParser:
    """Of one command, with a help text that ends with examples and exit statuses."""
    made = argparse.ArgumentParser(
        prog=f"pyserving {name}",
        description=module.__doc__,
        epilog=_epilog(module),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(made)
    return made


def _epilog(module: ModuleType) -> str:
    examples = [f"  {line}" for line in module.EXAMPLES]
    finding = getattr(module, "FINDING", None)
    statuses = {0: "done", 1: finding, FAILED: "it could not be done; a line on standard error says why"}
    rows = [f"  {status}  {meaning}" for status, meaning in statuses.items() if meaning]
    return "\n".join(["examples:", *examples, "", "exit status:", *rows])
