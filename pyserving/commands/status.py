"""Show the versions of a server's model, newest first."""

from __future__ import annotations

import argparse

from pyserving.commands import connection
from pyserving.commands.arguments import version_number
from pyserving.commands.table import add_json_argument, as_json, table

EXAMPLES = ["pyserving status my_model", "pyserving status my_model --target host:8500 --json"]
FINDING = "no version is AVAILABLE"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="its name")
    parser.add_argument("--version", type=version_number, help="only this one")
    add_json_argument(parser)
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    with connection.client(arguments) as client:
        states = client.status(arguments.model, version=arguments.version)
    rows = [(state.version, state.state, state.error.status if state.error else "") for state in states]
    head = ("version", "state", "error")
    if arguments.json:
        print(as_json([dict(zip(head, row, strict=True)) for row in rows]))
    else:
        print(table(head, [(str(version), state, error) for version, state, error in rows]))
    return 0 if any(state.state == "AVAILABLE" for state in states) else 1
