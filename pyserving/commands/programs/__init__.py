"""Programs that ask a model, one module for each language: a template, and what fills it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyserving.commands.programs import curl, go, java, js, python, python_grpc
from pyserving.commands.programs.template import Addresses
from pyserving.commands.sample import SampleRequest

LANGUAGES: Mapping[str, Callable[[SampleRequest, Addresses], str]] = {
    "curl": curl.program,
    "python": python.program,
    "python-grpc": python_grpc.program,
    "go": go.program,
    "js": js.program,
    "java": java.program,
}


def program(language: str, request: SampleRequest, addresses: Addresses) -> str:
    """Its text. Unimplemented for a request that cannot be made in this language's way."""
    return LANGUAGES[language](request, addresses)
