"""The server that models come to and go from: a process that tells what happens there, and its other end."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

ROOT = Path(__file__).resolve().parents[2]
CHANGE_SECONDS = 120.0
"""More than any change takes."""
TICK_SECONDS = 0.001
SHOWN_STALL_SECONDS = 0.002


async def serve(flags: Sequence[str]) -> None:
    """A ModelServer that tells on stdout, a JSON object a line, what happens to versions and how its loop stalls."""
    from pyserving import logs, main, options
    from pyserving.model_server import ModelServer

    parsed = options.parse(flags)
    logs.configure("text", os.environ.get("BENCHMARK_LOG_LEVEL", "warning"))
    sys.setswitchinterval(main.SWITCH_SECONDS)
    server = ModelServer(parsed.options, parsed.given)
    server.monitor.subscribe(
        lambda state: tell(model=state.id.name, version=state.id.version, state=state.manager_state.name)
    )
    watching = asyncio.create_task(watch_loop())
    await server.start()
    tell(ready=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()  # until the parent lets go
    watching.cancel()
    await server.stop()


def tell(**event: Any) -> None:
    print(json.dumps(event | {"at": time.monotonic()}), flush=True)


async def watch_loop() -> None:
    """Tells of every callback that came late by more than `SHOWN_STALL_SECONDS`."""
    with open("/proc/thread-self/schedstat") as schedstat:  # noqa: ASYNC230  # never waits: the kernel's memory

        def seconds() -> tuple[float, float]:
            """That this thread has run, and that it was kept from running."""
            schedstat.seek(0)
            ran, waited, _ = schedstat.read().split()
            return int(ran) / 1e9, int(waited) / 1e9

        before, due = seconds(), time.monotonic() + TICK_SECONDS
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            now, after = time.monotonic(), seconds()
            if (late := now - due) > SHOWN_STALL_SECONDS:
                work, cpu = (min(late, b - a) for a, b in zip(before, after, strict=True))
                tell(stall=late, work=work, cpu=cpu)
            before, due = after, now + TICK_SECONDS


@dataclass
class Stall:
    """Times in milliseconds."""

    at: float
    """When it ended, in seconds."""
    late: float
    work: float
    cpu: float

    @property
    def blocked(self) -> float:
        return max(0.0, self.late - self.work - self.cpu)


class Server:
    """The other end of `serve`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._news = asyncio.Condition()
        self.states: dict[tuple[str, int], str] = {}
        self.moments: dict[tuple[str, int, str], float] = {}
        self.stalls: list[Stall] = []
        self.is_ready = False
        self.exit_status: int | None = None
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            event = json.loads(line)
            async with self._news:
                if "stall" in event:
                    times = (event[name] * 1e3 for name in ("stall", "work", "cpu"))
                    self.stalls.append(Stall(event["at"], *times))
                elif "state" in event:
                    key = (event["model"], event["version"])
                    self.states[key] = event["state"]
                    self.moments[event["model"], event["version"], event["state"]] = event["at"]
                else:
                    self.is_ready = True
                self._news.notify_all()
        self.exit_status = await self._process.wait()
        async with self._news:
            self._news.notify_all()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        async with self._news:
            await asyncio.wait_for(
                self._news.wait_for(lambda: condition() or self.exit_status is not None), CHANGE_SECONDS
            )
        if not condition():
            raise RuntimeError(f"the server has gone with status {self.exit_status}")

    async def state(self, model: str, version: int, state: str) -> float:
        """When the version got there, as soon as it is there."""
        await self.wait_for(lambda: self.states.get((model, version)) == state)
        return self.moments[model, version, state]


@asynccontextmanager
async def running_server(
    folder: Path, config: Any, flags: Sequence[str] = ()
) -> AsyncIterator[tuple[Server, grpc.aio.Channel]]:
    (folder / "models.config").write_text(str(config))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.swap_load.server", "--port=0", f"--grpc_socket_path={folder}/s"),
        *(f"--model_config_file={folder}/models.config", "--file_system_poll_wait_seconds=1"),
        *flags,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONFAULTHANDLER": "1"},
    )
    server = Server(process)
    try:
        await server.wait_for(lambda: server.is_ready)
        async with grpc.aio.insecure_channel(
            f"unix:{folder}/s", options=[("grpc.max_receive_message_length", -1)]
        ) as channel:
            yield server, channel
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:]))
