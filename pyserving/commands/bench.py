"""Load a server's model with requests, and measure the answers: how many a second, how long each took, what failed.

So many requests are in flight at a time (--concurrency), or so many begin each second whatever becomes of them
(--rate); times then count from when each was due, so that a server that stalls cannot hide it. A request is what the
signature wants, with numbers that are zero, unless there are --inputs or --log. One process sends them all, over gRPC
some thousands a second; the last line tells how busy it was: near 100 % of a core, it is itself what limits.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyserving.commands import connection
from pyserving.commands.arguments import number_from_zero, positive, positive_number, version_number
from pyserving.commands.bench_requests import grpc_request, logged_requests, rest_request
from pyserving.commands.latencies import percentile_names, percentiles
from pyserving.commands.load import OK, Extent, Send, Tally, closed_loop, open_loop
from pyserving.commands.progress import progress
from pyserving.commands.senders import GrpcSender, Request, RestSender
from pyserving.commands.table import add_json_argument, as_json, table
from pyserving.errors import InvalidArgument, Unavailable

EXAMPLES = [
    "pyserving bench my_model --concurrency 16 --duration 30",
    "pyserving bench my_model --rate 200 --log /logs/my_model-*.tfrecord",
    """pyserving bench my_model --rest --requests 1000 --inputs '{"x": [[1.0, 2.0]]}'""",
]
FINDING = "some requests failed"

_PERCENTS = (50, 90, 99, 100)
_SECONDS = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="its name")
    parser.add_argument("--target", help="host:port or unix:/path (default: localhost:8500, or :8501 with --rest)")
    parser.add_argument("--rest", action="store_true", help="over the REST API in place of gRPC")
    version = parser.add_mutually_exclusive_group()
    version.add_argument("--version", type=version_number, help="a version's number")
    version.add_argument("--label", help="a version's label")
    parser.add_argument("--signature", default="", help="default: serving_default")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--inputs", help="JSON, @FILE, or - for standard input, as `pyserving predict` takes them")
    what.add_argument("--log", nargs="+", type=Path, metavar="FILE", help="send the requests of these logs in turn")
    load = parser.add_mutually_exclusive_group()
    load.add_argument("--concurrency", type=positive, default=8, metavar="N", help="calls in flight (default: 8)")
    load.add_argument("--rate", type=positive_number, metavar="N", help="requests that begin each second")
    parser.add_argument("--duration", type=positive_number, metavar="SECONDS", help="default: 10; with --requests: any")
    parser.add_argument("--requests", type=positive, metavar="N", help="stop after so many (default: any number)")
    parser.add_argument(
        "--warmup",
        type=number_from_zero,
        default=1.0,
        metavar="SECONDS",
        help="sent beforehand, uncounted (default: 1)",
    )
    add_json_argument(parser)
    connection.add_security_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    arguments.target = arguments.target or ("localhost:8501" if arguments.rest else "localhost:8500")
    requests = _requests(arguments)
    cpu, wall = time.process_time(), time.perf_counter()
    tally = asyncio.run(_measured(arguments, requests))
    busy = (time.process_time() - cpu) / (time.perf_counter() - wall)
    if arguments.json:
        print(as_json(_values(tally, busy)))
    else:
        print(_text(tally, busy))
    return 1 if tally.failed else 0


def _requests(arguments: argparse.Namespace) -> Sequence[Request]:
    if arguments.log and arguments.rest:
        raise InvalidArgument("logs hold gRPC's messages; --rest cannot send them")
    if arguments.log:
        return logged_requests(arguments)
    return [rest_request(arguments) if arguments.rest else grpc_request(arguments)]


async def _measured(arguments: argparse.Namespace, requests: Sequence[Request]) -> Tally:
    seconds = arguments.duration or (None if arguments.requests else _SECONDS)
    extent = Extent(seconds, arguments.requests)
    make_sender = RestSender if arguments.rest else GrpcSender
    security = connection.tls(arguments), connection.metadata(arguments)
    async with make_sender(arguments.target, requests, *security, arguments.timeout) as send:
        first = await send(0)
        if first.status == Unavailable.code.name:
            raise Unavailable(first.message)
        await _load(send, arguments, Extent(arguments.warmup), "warming up")
        return await _load(send, arguments, extent, "measuring")


async def _load(send: Send, arguments: argparse.Namespace, extent: Extent, what: str) -> Tally:
    with progress(what, extent.requests or extent.seconds) as advance:
        if arguments.rate:
            return await open_loop(send, arguments.rate, extent.numbers(advance))
        return await closed_loop(send, arguments.concurrency, extent.numbers(advance))


def _text(tally: Tally, busy: float) -> str:
    statuses = sorted(tally.milliseconds.items())
    rows = [
        (
            status,
            f"{len(times):,}",
            f"{len(times) / tally.seconds:,.1f}",
            *(f"{value:.2f}" for value in percentiles(times, _PERCENTS)),
        )
        for status, times in statuses
    ]
    head = ("status", "calls", "calls/s", *(f"{name} ms" for name in percentile_names(_PERCENTS)))
    errors = [f"{status}: {' '.join(message.split())}" for status, message in tally.messages.items() if status != OK]
    end = f"{tally.calls:,} calls in {tally.seconds:.1f} s; this process took {busy:.0%} of a core"
    return "\n\n".join(filter(None, [table(head, rows), "\n".join(errors), end]))


def _values(tally: Tally, busy: float) -> dict[str, Any]:
    names = [f"{name}_ms" for name in percentile_names(_PERCENTS)]
    return {
        "calls": tally.calls,
        "failed": tally.failed,
        "seconds": round(tally.seconds, 3),
        "calls_per_second": round(tally.calls / tally.seconds, 1),
        "cores_of_this_process": round(busy, 3),
        "statuses": {
            status: {
                "calls": len(times),
                **dict(zip(names, percentiles(times, _PERCENTS), strict=True)),
                **({"message": tally.messages[status]} if status != OK else {}),
            }
            for status, times in sorted(tally.milliseconds.items())
        },
    }
