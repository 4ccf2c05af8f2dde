"""Many hostile connections at once against a real server: its memory stays where it was, and honest clients go on."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest

from tests import models
from tests.conftest import Exported
from tests.end_to_end.client_requests import predict_request
from tests.end_to_end.server_process import ServerProcess, free_port
from tests.transports.http2.peer import (
    CONTINUATION,
    DATA,
    END_STREAM,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Peer,
    block,
    frame,
    headers,
    integer,
    message,
)

pytestmark = pytest.mark.slow

MIB = 1 << 20
ENEMIES = 20
MAX_BYTES = 256 * MIB
PREDICT = "/tensorflow.serving.PredictionService/Predict"
BLOCK = block(PREDICT)
SMALL = predict_request("m", {"x": np.float32([1.0])}).SerializeToString()
LARGE = predict_request("m", {"x": np.zeros(16_000, np.float32)}).SerializeToString()
WIDE = frame(SETTINGS, 0, 0, b"\0\4" + integer((1 << 31) - 1) + b"\0\5" + integer(1 << 17)) + frame(
    WINDOW_UPDATE, 0, 0, integer((1 << 31) - 65_536)
)


@pytest.fixture(scope="module")
def server(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, int]]:
    folder, port = tmp_path_factory.mktemp("enemies"), free_port()
    shutil.copytree(exported(models.half_plus_two), folder / "m" / "1")
    flags = ["--grpc_transport=http2", f"--port={port}", "--model_name=m", f"--model_base_path={folder / 'm'}"]
    with ServerProcess(*flags, f"--max_inflight_bytes={MAX_BYTES}") as process:
        yield process, port


def resident_bytes(process: ServerProcess) -> int:
    return int(Path(f"/proc/{process.process.pid}/statm").read_text().split()[1]) * 4096


async def claims_gigabytes(peer: Peer) -> None:
    """A hundred messages of 4 GiB are announced, and their first bytes sent."""
    peer.greet()
    for number in range(1, 201, 2):
        peer.send(headers(number, of=BLOCK) + frame(DATA, 0, number, b"\0\xff\xff\xff\xff" + bytes(100)))
    await peer.sync()


async def reads_nothing(peer: Peer) -> None:
    """Sixty megabytes of answers are asked for, and none read."""
    peer.send(PREFACE + WIDE)
    for number in range(1, 2001, 2):
        peer.send(headers(number, of=BLOCK) + frame(DATA, END_STREAM, number, message(LARGE)))
        with suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(peer.writer.drain(), 0.05)


async def resets_rapidly(peer: Peer) -> None:
    peer.greet()
    for number in range(1, 40_000, 2):
        peer.send(headers(number, of=BLOCK) + frame(RST_STREAM, 0, number, integer(8)))
    await _end_of(peer)


async def pings_without_end(peer: Peer) -> None:
    peer.greet()
    peer.send(frame(PING, 0, 0, bytes(8)) * 15_000)
    await _end_of(peer)


async def continues_without_end(peer: Peer) -> None:
    peer.greet()
    peer.send(headers(1, 0, BLOCK) + frame(CONTINUATION, 0, 1, bytes(10_000)) * 100)
    await _end_of(peer)


async def changes_its_mind(peer: Peer) -> None:
    """Settings by the thousand in each frame."""
    peer.greet()
    peer.send(frame(SETTINGS, 0, 0, (b"\0\4" + integer(1000)) * 10_000) * 5)
    await _end_of(peer)


async def _end_of(peer: Peer) -> None:
    while await peer.frame() is not None:
        pass


@asynccontextmanager
async def enemy(port: int) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    "attack",
    [claims_gigabytes, reads_nothing, resets_rapidly, pings_without_end, continues_without_end, changes_its_mind],
)
async def test_honest_clients_are_answered_while_many_attack(
    server: tuple[ServerProcess, int], attack: Callable[[Peer], Awaitable[None]]
) -> None:
    process, port = server
    before = resident_bytes(process)
    is_over = asyncio.Event()

    async def fight() -> None:
        async with enemy(port) as peer:
            with suppress(ConnectionError):
                await attack(peer)
            await is_over.wait()

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary(PREDICT)
        await ask(SMALL, timeout=60)
        fights = [asyncio.create_task(fight()) for _ in range(ENEMIES)]
        answers = 0
        for _ in range(30):
            with suppress(grpc.aio.AioRpcError):
                await ask(SMALL, timeout=60)
                answers += 1
        grown = resident_bytes(process) - before
        is_over.set()
        await asyncio.gather(*fights)
        await ask(SMALL, timeout=60)
    # While the bytes that may be in flight are all the enemies', calls are shed: nobody waits, and memory is kept.
    assert answers == 30 or attack in (claims_gigabytes, reads_nothing)
    assert grown < MAX_BYTES + 150 * MIB
