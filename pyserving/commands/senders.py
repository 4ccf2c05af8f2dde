"""What carries requests to a server while it is measured: a gRPC channel, or HTTP connections that are kept open."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple

import grpc.aio
import httptools

from pyserving.client import Tls
from pyserving.commands.load import OK, Answer
from pyserving.errors import InvalidArgument


class Request(NamedTuple):
    """A method or a path, and what is sent to it."""

    path: str
    body: bytes


class GrpcSender:
    """Sends the requests in turn over one channel."""

    def __init__(
        self, target: str, requests: Sequence[Request], tls: Tls | None, metadata: Mapping[str, str], timeout: float
    ) -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = (
            grpc.aio.secure_channel(target, tls.credentials(), options=[*options, *tls.channel_options])
            if tls is not None
            else grpc.aio.insecure_channel(target, options=options)
        )
        self._calls: list[tuple[Any, bytes]] = [
            (self._channel.unary_unary(request.path), request.body) for request in requests
        ]
        self._metadata = tuple(metadata.items())
        self._timeout = timeout

    async def __aenter__(self) -> GrpcSender:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def __call__(self, number: int) -> Answer:
        method, body = self._calls[number % len(self._calls)]
        try:
            await method(body, timeout=self._timeout, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            return Answer(error.code().name, error.details() or "")
        return Answer(OK)


class RestSender:
    """Sends the requests in turn, each over a connection of its own for as long as it takes."""

    def __init__(
        self, target: str, requests: Sequence[Request], tls: Tls | None, metadata: Mapping[str, str], timeout: float
    ) -> None:
        """`target` is HOST:PORT; `metadata` become headers.

        Raises InvalidArgument for another target, OSError for a certificate file that cannot be read.
        """
        self._host, self._port = host_and_port(target)
        self._tls = None if tls is None else tls_context(tls)
        self._server_name = tls.server_name if tls is not None else None
        more = "".join(f"{name}: {value}\r\n" for name, value in metadata.items())
        self._requests = [_post(request, target, more) for request in requests]
        self._timeout = timeout
        self._idle: list[_Connection] = []

    async def __aenter__(self) -> RestSender:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._idle:
            await connection.close()

    async def __call__(self, number: int) -> Answer:
        try:
            return await asyncio.wait_for(self._ask(self._requests[number % len(self._requests)]), self._timeout)
        except asyncio.TimeoutError:
            return Answer("DEADLINE_EXCEEDED", f"no answer within {self._timeout:g} s")
        except (OSError, EOFError, httptools.HttpParserError) as error:
            return Answer("UNAVAILABLE", str(error))

    async def _ask(self, request: bytes) -> Answer:
        connection = self._idle.pop() if self._idle else await self._connected()
        try:
            response = await connection.ask(request)
        except BaseException:  # also when it takes too long: an answer that comes later must find nobody
            await connection.close()
            raise
        if response.keeps_alive:
            self._idle.append(connection)
        else:
            await connection.close()
        if response.status == 200:
            return Answer(OK)
        return Answer(f"HTTP {response.status}", response.body.decode(errors="replace"))

    async def _connected(self) -> _Connection:
        name = self._server_name if self._tls is not None else None
        return _Connection(*await asyncio.open_connection(self._host, self._port, ssl=self._tls, server_hostname=name))


_TARGET = re.compile(r"(?P<host>\[[^\[\]/]+\]|[^\[\]:/]+):(?P<port>[0-9]{1,5})")


def host_and_port(target: str) -> tuple[str, int]:
    """Of HOST:PORT, as sockets take them; InvalidArgument for anything else."""
    found = _TARGET.fullmatch(target)
    if found is None:
        raise InvalidArgument(f"{target} is not HOST:PORT, which --rest wants")
    return found["host"].strip("[]"), int(found["port"])


def tls_context(tls: Tls) -> ssl.SSLContext:
    """As the standard library takes it. OSError for a file that cannot be read."""
    context = ssl.create_default_context(cafile=tls.ca_file)
    if tls.cert_file:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    return context


def _post(request: Request, host: str, more_headers: str) -> bytes:
    head = f"POST {request.path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{more_headers}"
    return f"{head}Content-Length: {len(request.body)}\r\n\r\n".encode() + request.body


class _Response:
    """Put together by the parser."""

    def __init__(self) -> None:
        self.is_whole = False
        self.body = b""
        self.status = 0
        self.keeps_alive = False
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.status, self.keeps_alive = self._parser.get_status_code(), self._parser.should_keep_alive()
        self.is_whole = True


class _Connection:
    """One at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, request: bytes) -> _Response:
        """EOFError when the connection ends first."""
        self._writer.write(request)
        await self._writer.drain()
        response = _Response()
        while not response.is_whole:
            if not (data := await self._reader.read(1 << 16)):
                raise EOFError("the server closed the connection")
            response.feed(data)
        return response

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()
