"""gRPC clients as people have them, in four languages, each behind one function: calls in, outcomes out.

A client that is a program of its own has the server's address as its argument, and takes an order a line: method,
timeout in milliseconds (0: none), how (identity, gzip, deflate, or cancel: after 100 ms), how many such calls at once,
the file with the request's bytes, the file for the last answer's. It sends the metadata `tenant: a` and
`blob-bin: 00 ff`, and answers each order with a line: `code:number` of each status, and the last message in hex.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import grpc
import grpc.aio
import pytest

HERE = Path(__file__).parent
SECONDS = 120
METADATA = (("tenant", "a"), ("blob-bin", b"\x00\xff"))
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]


@dataclass(frozen=True, slots=True)
class Order:
    method: str
    body: bytes
    how: str = "identity"
    timeout_millis: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    codes: dict[int, int]
    """Status codes, and how many calls had each."""
    message: str
    """Of the last call."""
    answer: bytes
    """Of the last call; empty when it failed."""


Client: TypeAlias = Callable[[str, Sequence[Order]], list[Outcome]]
"""Given a server's address and some orders, carried out one after the other on one channel."""

# grpcio

_COMPRESSION = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}


def grpcio(address: str, orders: Sequence[Order]) -> list[Outcome]:
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        return [_carry_out(channel, order) for order in orders]


def _carry_out(channel: grpc.Channel, order: Order) -> Outcome:
    method = channel.unary_unary(order.method)
    timeout = order.timeout_millis / 1000 or None
    calls = [
        method.future(order.body, timeout=timeout, metadata=METADATA, compression=_COMPRESSION.get(order.how))
        for _ in range(order.count)
    ]
    if order.how == "cancel":
        assert calls[0].cancel()
    codes = Counter(int(call.code().value[0]) for call in calls)
    last = calls[-1]
    failed = last.code() is not grpc.StatusCode.OK
    return Outcome(dict(codes), last.details() or "", b"" if failed else last.result())


def grpcio_aio(address: str, orders: Sequence[Order]) -> list[Outcome]:
    async def run() -> list[Outcome]:
        async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
            return [await _carry_out_aio(channel, order) for order in orders]

    return asyncio.run(run())


async def _carry_out_aio(channel: grpc.aio.Channel, order: Order) -> Outcome:
    method = channel.unary_unary(order.method)
    timeout = order.timeout_millis / 1000 or None
    calls = [
        method(order.body, timeout=timeout, metadata=METADATA, compression=_COMPRESSION.get(order.how))
        for _ in range(order.count)
    ]
    if order.how == "cancel":
        calls[0].cancel()
    codes = Counter([int((await call.code()).value[0]) for call in calls])
    last = calls[-1]
    failed = await last.code() is not grpc.StatusCode.OK
    return Outcome(dict(codes), await last.details() or "", b"" if failed else await last)


# Programs


def program(command: Sequence[str], folder: Path, env: dict[str, str] | None = None) -> Client:
    """The client that `command` is; it keeps its files in `folder`."""

    def ask(address: str, orders: Sequence[Order]) -> list[Outcome]:
        lines = []
        for number, order in enumerate(orders):
            request = folder / f"request-{number}"
            request.write_bytes(order.body)
            parts = (order.method, order.timeout_millis, order.how, order.count, request, folder / f"answer-{number}")
            lines.append("\t".join(map(str, parts)))
        done = subprocess.run(
            [*command, address], input="\n".join(lines) + "\n", env=env, capture_output=True, text=True, timeout=SECONDS
        )
        assert done.returncode == 0, done.stderr
        said = done.stdout.splitlines()
        assert len(said) == len(orders), (done.stdout, done.stderr)
        return [_outcome(line, folder / f"answer-{number}") for number, line in enumerate(said)]

    return ask


def _outcome(line: str, answer: Path) -> Outcome:
    codes, message = line.split("\t")
    counted = dict(tuple(map(int, pair.split(":"))) for pair in codes.split())
    return Outcome(counted, bytes.fromhex(message).decode(), answer.read_bytes())


def grpc_js(folder: Path) -> Client:
    node, npm = needed("node", "nodejs"), needed("npm", "npm")
    package = ["@grpc/grpc-js"]
    attempt(f"npm install {package[0]}", [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), *package])
    return program([node, str(HERE / "client.js")], folder, os.environ | {"NODE_PATH": str(folder / "node_modules")})


def cplusplus(folder: Path) -> Client:
    compiler, pkg_config = needed("g++", "g++"), needed("pkg-config", "pkg-config")
    flags = attempt("libgrpc++-dev (Debian)", [pkg_config, "--cflags", "--libs", "grpc++"]).split()
    built = folder / "client"
    command = [compiler, "-std=c++17", str(HERE / "client.cc"), "-o", str(built), *flags]
    subprocess.run(command, check=True, timeout=10 * SECONDS)
    return program([str(built)], folder)


def go(folder: Path) -> Client:
    compiler = needed("go", "golang-go")
    env = os.environ | {"GOPATH": "/usr/share/gocode", "GO111MODULE": "off"}
    attempt("golang-google-grpc-dev (Debian)", [compiler, "list", "google.golang.org/grpc"], env)
    built = folder / "client"
    subprocess.run(
        [compiler, "build", "-o", str(built), str(HERE / "client.go")], env=env, check=True, timeout=10 * SECONDS
    )
    return program([str(built)], folder)


# Tools that a machine may lack


def needed(tool: str, package: str) -> str:
    """The tool's path; where there is none, the test is skipped and says what to install."""
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"INTEROP NOT TESTED: there is no {tool} here; Debian has it in the package {package}")
    return path


def attempt(what: str, command: Sequence[str], env: dict[str, str] | None = None) -> str:
    """What the command prints; where it fails, the test is skipped and says why."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=env)
    except subprocess.TimeoutExpired:
        pytest.skip(f"INTEROP NOT TESTED: {what} could not be had in {SECONDS} seconds")
    if done.returncode:
        pytest.skip(f"INTEROP NOT TESTED: {what} cannot be had: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout
