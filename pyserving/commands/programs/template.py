"""What the writers of programs have in common."""

from __future__ import annotations

import json
import string
from dataclasses import dataclass
from typing import Any

from pyserving.commands.sample import SampleRequest


class Template(string.Template):
    """`§name` or `§{name}` stands for a value: no language means anything by that sign."""

    delimiter = "§"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the server is, as HOST:PORT or as gRPC writes it."""

    grpc: str
    rest: str

    @property
    def rest_port(self) -> str:
        return self.rest.rpartition(":")[2]


def question(request: SampleRequest) -> str:
    """Whom a program asks, for its first line."""
    return f"Asks the signature {_plain(request.signature_name)} of the model {_plain(request.model)}"


def _plain(name: str) -> str:
    """A name that ends no comment, whatever is in it."""
    return "".join(character if character.isalnum() or character in "_-. " else "?" for character in name)


def literal(text: str) -> str:
    """Of Python and of JavaScript, in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def in_python(value: Any) -> str:
    """An element of a sample, or nested lists of it, with strings in double quotes."""
    return repr(value).replace("''", '""')
