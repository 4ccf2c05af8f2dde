"""Give a server another list of models, and wait until it serves them.

FILE is a text-format ModelServerConfig, as --model_config_file takes it. Its list takes the place of the server's:
models that it leaves out are unloaded.
"""

from __future__ import annotations

import argparse

from pyserving import config, protos
from pyserving.commands import connection

EXAMPLES = ["pyserving reload models.config", "pyserving reload models.config --target host:8500 --timeout 600"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the new list")
    connection.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    models = config.read_text_proto(arguments.file, protos.ModelServerConfig)
    with connection.client(arguments) as client:
        client.reload(models)
    print("Served: " + ", ".join(model.name for model in models.model_config_list.config))
    return 0
