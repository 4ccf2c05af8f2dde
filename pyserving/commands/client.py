"""Write a program that asks a model, ready to run, with a request of the right names, types and shapes.

MODEL is a SavedModel's folder (a version, or a base path, whose newest version is meant), or HOST:PORT/NAME for a model
of a running server, which is then asked over gRPC what it takes. Numbers are zero and texts empty: put yours in.

  curl, python, go, java   over REST, with nothing to install
  python-grpc              over gRPC, with tensorflow-serving-api
  js                       over gRPC, with @grpc/grpc-js
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pyserving.commands import connection, inspect
from pyserving.commands.example_features import example_features
from pyserving.commands.programs import LANGUAGES, program
from pyserving.commands.programs.template import Addresses
from pyserving.commands.sample import SampleRequest, SampleTensor, sample_request
from pyserving.commands.version_folder import version_folder
from pyserving.errors import InvalidArgument, NotFound
from pyserving.signature import DEFAULT_SIGNATURE_NAME, SignatureDef

EXAMPLES = [
    "pyserving client /models/my_model --language curl > ask.sh; sh ask.sh",
    "pyserving client localhost:8500/my_model --language python-grpc --signature scores",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a folder, or HOST:PORT/NAME")
    parser.add_argument("--language", required=True, choices=LANGUAGES, help="of the program")
    parser.add_argument("--signature", metavar="NAME", help="default: serving_default, or the first there is")
    parser.add_argument("--name", help="the model's name on the server (default: that of its base path)")
    parser.add_argument("--target", help="the server's gRPC address (default: that in MODEL, or localhost:8500)")
    parser.add_argument("--rest_target", help="the server's HTTP address (default: the same host, port 8501)")
    connection.add_security_arguments(parser)


@dataclass(frozen=True, slots=True)
class _Model:
    """What a program must know of its model."""

    name: str
    target: str
    signatures: Mapping[str, SignatureDef]
    features: Mapping[str, SampleTensor]
    """Of its tf.Examples, where they can be known."""


def run(arguments: argparse.Namespace) -> int:
    path = Path(arguments.model)
    model = _in_folder(path) if path.is_dir() else _on_server(arguments)
    target = arguments.target or model.target
    addresses = Addresses(target, arguments.rest_target or _rest_target(target))
    request = _request(model, arguments)
    print(program(arguments.language, request, addresses), end="")
    if not request.tensors and request.method != "Predict":
        print("A server does not tell which features its model reads; put them into the Example.", file=sys.stderr)
    return 0


def _request(model: _Model, arguments: argparse.Namespace) -> SampleRequest:
    name = arguments.signature or _usual_signature(model.signatures)
    if name not in model.signatures:
        known = ", ".join(sorted(model.signatures)) or "none"
        raise InvalidArgument(f"{arguments.model} has no signature {name}; it has {known}")
    return sample_request(arguments.name or model.name, name, model.signatures[name], model.features)


def _usual_signature(signatures: Mapping[str, SignatureDef]) -> str:
    if DEFAULT_SIGNATURE_NAME in signatures:
        return DEFAULT_SIGNATURE_NAME
    return min(signatures, default=DEFAULT_SIGNATURE_NAME)


def _in_folder(path: Path) -> _Model:
    version = version_folder(path)
    base_path = version.parent if version.name.isdecimal() else version
    # The MetaGraph that a server loads unless --saved_model_tags tells otherwise.
    served = [graph for graph in inspect.read(version).meta_graphs if [*graph.meta_info_def.tags] == ["serve"]]
    if not served:
        raise NotFound(f"{version} holds no MetaGraph {{serve}}")
    features = example_features(served[0].graph_def)
    return _Model(base_path.resolve().name, "localhost:8500", dict(inspect.signatures(served[0])), features)


def _on_server(arguments: argparse.Namespace) -> _Model:
    written = re.fullmatch(r"(?P<target>unix:.+|[^/]+:\d+)/(?P<name>[^/]+)", arguments.model)
    if written is None:
        raise NotFound(f"{arguments.model} is neither a folder nor HOST:PORT/NAME")
    with connection.client(arguments, written["target"]) as client:
        signatures = client.metadata(written["name"]).signatures
    return _Model(written["name"], written["target"], signatures, {})


def _rest_target(target: str) -> str:
    host = "localhost" if target.startswith("unix:") else target.rpartition(":")[0]
    return f"{host}:8501"
