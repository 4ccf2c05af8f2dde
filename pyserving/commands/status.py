"""Show the versions of a server's model, newest first. Exit status 1 when none of them is AVAILABLE."""

from __future__ import annotations

import argparse

from pyserving.commands import connection
from pyserving.commands.table import table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model")
    parser.add_argument("--version", type=int, help="only this one")
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    with connection.client(arguments) as client:
        states = client.status(arguments.model, version=arguments.version)
    rows = [(str(state.version), state.state, state.error.status if state.error else "") for state in states]
    print(table(("version", "state", "error"), rows))
    return 0 if any(state.state == "AVAILABLE" for state in states) else 1
