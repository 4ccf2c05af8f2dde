"""Send the requests of a log again, and compare the answers with the logged ones, or with those of another server.

FILEs are TFRecord files of PredictionLogs, as a logging_config writes them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path

from pyserving.client import Client
from pyserving.commands import connection
from pyserving.commands.arguments import positive
from pyserving.commands.progress import counted
from pyserving.commands.replay_summary import Summary
from pyserving.commands.replaying import Replay, in_order, paced
from pyserving.commands.table import add_json_argument, as_json
from pyserving.errors import InvalidArgument, ServingError, Unavailable
from pyserving.request_log import reader
from pyserving.request_log.comparison import Tolerance
from pyserving.request_log.reader import LoggedCall

EXAMPLES = [
    "pyserving replay /logs/my_model-*.tfrecord --target new:8500",
    "pyserving replay /logs/my_model-*.tfrecord --target new:8500 --diff old:8500 --concurrency 8",
]
FINDING = "some answers are others, or did not come"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="logs")
    parser.add_argument("--target", required=True, help="the server to ask: host:port or unix:/path")
    parser.add_argument("--diff", metavar="TARGET", help="compare with this server's answers, not with the logged ones")
    parser.add_argument("--concurrency", type=positive, default=1, metavar="N", help="calls at a time (default: 1)")
    parser.add_argument(
        "--speed",
        type=float,
        default=0.0,
        metavar="FACTOR",
        help="keep the pace of the log, so many times as fast; 0: as fast as answers come (default)",
    )
    parser.add_argument("--rtol", type=float, default=1e-4, help="relative tolerance of numbers (default: 1e-4)")
    parser.add_argument("--atol", type=float, default=1e-5, help="absolute tolerance of numbers (default: 1e-5)")
    parser.add_argument("--latest", action="store_true", help="ask the latest version, whichever the request names")
    parser.add_argument("--model", help="ask the model of this name instead of the logged one")
    parser.add_argument("--max_records", type=positive, metavar="N", help="stop after so many")
    parser.add_argument("--show", type=int, default=10, metavar="N", help="differences to print (default: 10)")
    add_json_argument(parser)
    connection.add_security_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    calls: Iterable[LoggedCall] = chain.from_iterable(reader.calls(file, may_be_cut=True) for file in arguments.files)
    summary, shown = Summary(), list[str]()
    with ExitStack() as stack:
        targets = [target for target in (arguments.target, arguments.diff) if target]
        clients = [stack.enter_context(connection.client(arguments, target)) for target in targets]
        replay = Replay(clients, Tolerance(arguments.rtol, arguments.atol), arguments.latest, arguments.model)
        selected = _if_reached(clients, islice(calls, arguments.max_records))
        results = in_order(replay, paced(selected, arguments.speed), arguments.concurrency)
        for result in counted(results, "replaying", arguments.max_records):
            if result.is_bad and summary.num_bad < arguments.show:
                shown.append(result.text)
                if not arguments.json:
                    print(result.text)
            summary.add(result)
    if not summary.num_calls:
        raise InvalidArgument("no file holds a request that can be sent again")
    if arguments.json:
        print(as_json({"shown": shown, "methods": summary.values(targets)}))
    else:
        print(summary.tables(targets))
    if not summary.num_compared:
        raise InvalidArgument("no answer was compared: the files hold requests alone, and --diff names no other server")
    return 1 if summary.num_bad else 0


def _if_reached(clients: Sequence[Client], calls: Iterable[LoggedCall]) -> Iterator[LoggedCall]:
    """The calls. Unavailable before the first if there is no server: better said once than of each."""
    for number, call in enumerate(calls):
        if number == 0:
            for client in clients:
                _reach(client)
        yield call


def _reach(client: Client) -> None:
    try:
        client.status("")
    except Unavailable:
        raise
    except ServingError:  # it answers
        pass
