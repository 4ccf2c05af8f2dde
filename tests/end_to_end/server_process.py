"""A real server in a process of its own, and the unmodified client of tensorflow-serving-api to ask it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 180.0
"""Generous: a machine may be busy. Nothing waits this long when all is well."""


def free_port() -> int:
    """A TCP port that nobody listens on now, for what has no UNIX socket."""
    with socket.create_server(("", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """`python -m pyserving` with the given flags, listening on a UNIX socket; `with` stops it."""

    def __init__(self, *flags: str, wait_for: str | None = "Running gRPC ModelServer at") -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pys"))  # short: socket paths hold 107 bytes
        self.address = f"unix:{self._folder}/s"
        self.lines: list[str] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pyserving", "--port=0", f"--grpc_socket_path={self._folder}/s", *flags],
            cwd=ROOT,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if wait_for is not None:
            self.wait_for(wait_for)

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if error is not None:
            print("\n".join(self.lines[-80:]))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def wait_for(self, text: str, count: int = 1) -> str:
        """The `count`th line of the log that holds `text`, as soon as it is there."""

        def found() -> list[str]:
            return [line for line in self.lines if text in line]

        with self._news:
            self._news.wait_for(lambda: len(found()) >= count or not self._reader.is_alive(), timeout=START_SECONDS)
            lines = found()
        if len(lines) < count:
            raise AssertionError(f"{text!r} is not in the log:\n" + "\n".join(self.lines[-80:]))
        return lines[count - 1]

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(
            self.address,
            options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
        )

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        return self.process.wait(timeout=START_SECONDS)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(timeout=10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class Client:
    """The stubs of tensorflow-serving-api over one channel."""

    def __init__(self, server: ServerProcess) -> None:
        self._channel = server.channel()
        self.prediction: Any = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self.model: Any = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self.unary_unary = self._channel.unary_unary

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
