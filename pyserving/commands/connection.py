"""The arguments that commands share which ask a server."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from pyserving.client import Client, Tls
from pyserving.client.channel import check_metadata
from pyserving.commands.arguments import positive_number
from pyserving.errors import InvalidArgument

TOKEN_VARIABLE = "PYSERVING_TOKEN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", default="localhost:8500", help="host:port or unix:/path (default: localhost:8500)")
    add_security_arguments(parser)


def add_security_arguments(parser: argparse.ArgumentParser) -> None:
    """All but the server itself."""
    group = parser.add_argument_group("connection")
    group.add_argument(
        "--timeout", type=positive_number, default=60.0, metavar="SECONDS", help="for each call (default: 60)"
    )
    group.add_argument("--tls", action="store_true", help="over TLS; implied by the files below")
    group.add_argument("--ca_file", metavar="PEM", help="certificates that may have signed the server's")
    group.add_argument("--cert_file", metavar="PEM", help="the client's own certificate")
    group.add_argument("--key_file", metavar="PEM", help="its key")
    group.add_argument("--server_name", help="the name in the server's certificate, if it is not the target's")
    group.add_argument(
        "--token_file", metavar="FILE", help=f"holds the token to show (default: ${TOKEN_VARIABLE}, if set)"
    )
    group.add_argument("--metadata", action="append", default=[], type=_pair, metavar="KEY=VALUE", help="repeatable")


@dataclass(frozen=True, slots=True)
class _Pair:
    key: str
    value: str


def _pair(text: str) -> _Pair:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return _Pair(key.lower(), value)


def tls(arguments: argparse.Namespace) -> Tls | None:
    """None: in the clear. InvalidArgument for a certificate without its key."""
    files = (arguments.ca_file, arguments.cert_file, arguments.key_file)
    has_tls = arguments.tls or any(files) or arguments.server_name
    return Tls(*files, arguments.server_name) if has_tls else None


def metadata(arguments: argparse.Namespace) -> dict[str, str]:
    """What goes with every call, by names in lower case; among it the token.

    OSError for a file that cannot be read; InvalidArgument for a token file that holds none, or for what cannot be
    sent.
    """
    token = _token(arguments.token_file)
    shown = {"authorization": f"Bearer {token}"} if token else {}
    found = {**{pair.key: pair.value for pair in arguments.metadata}, **shown}
    check_metadata(found)
    return found


def client(arguments: argparse.Namespace, target: str | None = None) -> Client:
    """Of `--target`, unless told otherwise. Raises as `metadata` does, and OSError for a certificate file."""
    return Client(
        target or arguments.target,
        tls=tls(arguments),
        timeout=arguments.timeout,
        metadata=metadata(arguments),
    )


def _token(file: str | None) -> str:
    """Empty: none. Never from the command line itself, which every user of the machine can see."""
    if file is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    words = Path(file).read_text(errors="replace").split()
    if len(words) != 1:
        raise InvalidArgument(f"{file} must hold one token and nothing else")
    return words[0]
