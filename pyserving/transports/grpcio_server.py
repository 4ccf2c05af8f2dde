"""gRPC by grpcio's asyncio server: bytes in, bytes out, by the full path of the method. The reference transport."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any, TypeAlias, cast

import grpc
import grpc.aio

from pyserving.errors import Code, ServingError, Unavailable
from pyserving.messages import Authenticate, CallContext, Method, StreamMethod, reserve_nothing
from pyserving.transports import addresses as listening
from pyserving.transports import unix_socket
from pyserving.transports.admission import Admission, Lease
from pyserving.transports.grpc_status import status_of
from pyserving.transports.tls import Credentials, Tls

_log = logging.getLogger(__name__)

_Run: TypeAlias = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]
_STATUS_CODES = {Code(status.value[0]): status for status in grpc.StatusCode}
_HEALTH = "/grpc.health.v1.Health/"
_CHANNEL_ARGUMENTS: dict[str, int | str] = {
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    "grpc.so_reuseport": 0,  # or a second server on the port would silently take half of the connections
}
_QUIET_SECONDS = 0.002
_MAX_QUIETING_SECONDS = 1.0
_REBIND_SECONDS = 0.01
_BROKEN_GRACE_SECONDS = 3600.0  # for calls that were in a server which broke down


async def _unknown_method(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "")  # grpc++ gives no message


_UNKNOWN_METHOD: grpc.RpcMethodHandler = grpc.stream_stream_rpc_method_handler(_unknown_method)


class GrpcioServer(grpc.GenericRpcHandler):
    """Serves unary and streaming methods on TCP ports and unix sockets while the context is open.

    Unary calls pass through `admission`, health checks excepted. Addresses are gRPC's: `0.0.0.0:8500`, `unix:/path`.
    Channel arguments go to gRPC as they are; they win over ours.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        stream_methods: Mapping[str, StreamMethod],
        *,
        addresses: Sequence[str],
        admission: Admission,
        channel_arguments: Sequence[tuple[str, int | str]] = (),
        tls: Tls | None = None,
        authenticate: Authenticate | None = None,
    ) -> None:
        self.ports: list[int] = []
        """The TCP ports in the order of their addresses; known once the server is open."""
        self._addresses = list(addresses)
        self._socket_paths = [path for path in map(listening.socket_path, addresses) if path is not None]
        self._admission = admission
        self._tls = tls
        self._entrance: grpc.GenericRpcHandler = self if authenticate is None else _Entrance(self, authenticate)
        self._options = tuple((_CHANNEL_ARGUMENTS | dict(channel_arguments)).items())
        self._handlers = {path: self._unary_handler(path, method) for path, method in methods.items()}
        self._handlers |= {path: self._stream_handler(path, method) for path, method in stream_methods.items()}
        self._servers: list[grpc.aio.Server] = []
        self._reopening: set[asyncio.Task[None]] = set()
        self._socket_files: list[unix_socket.SocketFile] = []
        self._streams: set[asyncio.Task[Any]] = set()
        self._arrived = 0
        self._calls = 0
        self._answered = asyncio.Event()
        self._stopping = False

    @property
    def port(self) -> int:
        """The first TCP port."""
        return self.ports[0]

    async def __aenter__(self) -> GrpcioServer:
        """InvalidArgument, as TensorFlow Serving's, when an address cannot be had."""
        for path in self._socket_paths:
            listening.make_room(path)
        await self._open()
        for file in self._socket_files:
            _log.info("The socket %s has mode %04o, as the umask leaves it", file.path, file.mode)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop(0.0)

    async def stop(self, grace_seconds: float) -> None:
        """Refuse new calls, let those admitted be answered, end streams; cancel what is left after the grace time."""
        if self._stopping:
            return
        self._stopping = True
        loop = asyncio.get_running_loop()
        end = loop.time() + grace_seconds
        for reopening in self._reopening:
            reopening.cancel()
        await asyncio.gather(*self._reopening, return_exceptions=True)
        if self._calls:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._answered.wait(), grace_seconds)
        await self._quiet_moment(min(end, loop.time() + _MAX_QUIETING_SECONDS))
        for stream in self._streams:
            stream.cancel()
        await asyncio.gather(*(server.stop(max(0.0, end - loop.time())) for server in self._servers))
        for file in self._socket_files:
            file.remove()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """grpcio asks here for the handler of every call."""
        self._arrived += 1
        return self._handlers.get(handler_call_details.method, _UNKNOWN_METHOD)

    async def _quiet_moment(self, until: float) -> None:
        # From its shutdown on, grpcio cancels the calls that its core has received and not handed over. One that begins
        # when all is answered and nobody has come for a moment hits no one; until then a refusal says why.
        arrived = -1
        while arrived != self._arrived and asyncio.get_running_loop().time() < until:
            arrived = self._arrived
            await asyncio.sleep(_QUIET_SECONDS)

    # One call

    def _unary_handler(self, path: str, method: Method) -> grpc.RpcMethodHandler:
        run = self._unadmitted(method) if path.startswith(_HEALTH) else self._admitted(method)

        async def answer(body: bytes, context: grpc.aio.ServicerContext) -> bytes:
            try:
                return await run(body, context)
            except Exception as error:
                code, message = status_of(error, path)
            return await context.abort(_STATUS_CODES[code], message)

        return grpc.unary_unary_rpc_method_handler(answer)

    def _unadmitted(self, method: Method) -> _Run:
        async def run(body: bytes, context: grpc.aio.ServicerContext) -> bytes:
            return await method(body, _call_context(context))

        return run

    def _admitted(self, method: Method) -> _Run:
        async def run(body: bytes, context: grpc.aio.ServicerContext) -> bytes:
            if self._stopping:
                raise _shutting_down()
            lease = Lease(self._admission, len(body))
            self._calls += 1
            try:
                return await method(body, _call_context(context, lease.reserve))
            finally:
                self._calls -= 1
                lease.release()
                if self._stopping and not self._calls:
                    self._answered.set()

        return run

    def _stream_handler(self, path: str, method: StreamMethod) -> grpc.RpcMethodHandler:
        async def answer(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
            try:
                await self._converse(method, requests, context)
                return
            except Exception as error:
                code, message = status_of(error, path)
            await context.abort(_STATUS_CODES[code], message)

        return grpc.stream_stream_rpc_method_handler(answer)

    async def _converse(
        self, method: StreamMethod, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> None:
        if self._stopping:
            raise _shutting_down()
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._streams.add(task)
        try:
            generator = cast("AsyncGenerator[bytes, None]", method(requests, _call_context(context)))
            async with aclosing(generator) as answers:  # closed with the call, not by the garbage collector
                async for answer in answers:
                    await context.write(answer)
        except asyncio.CancelledError:
            if self._stopping:
                raise _shutting_down() from None
            raise
        finally:
            self._streams.discard(task)

    # Opening, and opening again

    async def _open(self) -> None:
        server = grpc.aio.server(options=self._options)
        server.add_generic_rpc_handlers((self._entrance,))
        try:
            addresses, ports = self._bind(server)
        except ServingError:
            await server.start()  # grpcio gives back the ports of a server only when it has run
            await server.stop(0.0)
            raise
        self._addresses, self.ports = addresses, ports
        others = asyncio.all_tasks()
        self._servers.append(server)
        await server.start()
        self._socket_files = [unix_socket.SocketFile(path) for path in self._socket_paths]
        _serving_task(asyncio.all_tasks() - others).add_done_callback(self._serving_ended)

    def _bind(self, server: grpc.aio.Server) -> tuple[list[str], list[int]]:
        addresses, ports = [], []
        for address in self._addresses:
            try:
                port = self._add_port(server, address)
            except RuntimeError:
                raise listening.cannot_listen(f"cannot listen on {address}; is another server there?") from None
            if listening.socket_path(address) is None:
                address = f"{address.rpartition(':')[0]}:{port}"  # the same again, should we open again
                ports.append(port)
            addresses.append(address)
        return addresses, ports

    def _add_port(self, server: grpc.aio.Server, address: str) -> int:
        if self._tls is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, _server_credentials(self._tls))

    def _serving_ended(self, task: asyncio.Task[Any]) -> None:
        # grpcio's accept loop dies of a method path that is not UTF-8, and takes its ports along. Calls in it go on.
        if not self._stopping:
            _log.error("The gRPC server broke down and is opened again", exc_info=task.exception())
            reopening = asyncio.get_running_loop().create_task(self._reopen(self._servers[-1]))
            self._reopening.add(reopening)
            reopening.add_done_callback(self._reopening.discard)

    async def _reopen(self, broken: grpc.aio.Server) -> None:
        while not await self._opened_again():  # noqa: ASYNC110  grpcio tells nobody when its listeners have closed
            await asyncio.sleep(_REBIND_SECONDS)
        await broken.stop(_BROKEN_GRACE_SECONDS)
        self._servers.remove(broken)

    async def _opened_again(self) -> bool:
        if not self._socket_files_are_gone():
            return False  # the broken server's listeners are still closing; they would remove our new files
        try:
            await self._open()
        except ServingError:
            return False
        return True

    def _socket_files_are_gone(self) -> bool:
        return not any(os.path.exists(path) for path in self._socket_paths)


class _Entrance(grpc.GenericRpcHandler):
    """Before a server whose calls have to be let in."""

    def __init__(self, server: GrpcioServer, authenticate: Authenticate) -> None:
        self._server = server
        self._authenticate = authenticate

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        handler = self._server.service(handler_call_details)
        try:
            self._authenticate(
                "POST", handler_call_details.method, dict(handler_call_details.invocation_metadata or ())
            )
        except ServingError as error:
            return _refusing(error)
        return handler


def _refusing(error: ServingError) -> grpc.RpcMethodHandler:
    async def refuse(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
        await context.abort(_STATUS_CODES[error.code], error.message)

    return grpc.stream_stream_rpc_method_handler(refuse)


def _server_credentials(tls: Tls) -> grpc.ServerCredentials:
    told = tls.credentials

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        """In gRPC's threads, before each handshake; None: nothing has changed."""
        nonlocal told
        if told is tls.credentials:
            return None
        told = tls.credentials
        return _certificate_configuration(told)

    has_roots = told.identity.client_roots is not None
    return grpc.dynamic_ssl_server_credentials(
        _certificate_configuration(told),
        renewed,  # type: ignore[arg-type]  # its stubs do not know that None is an answer
        has_roots,
    )


def _certificate_configuration(credentials: Credentials) -> grpc.ServerCertificateConfiguration:
    identity = credentials.identity
    roots = identity.client_roots.text if identity.client_roots is not None else None
    return grpc.ssl_server_certificate_configuration([(identity.key.text, identity.certificates.text)], roots)


def _call_context(context: grpc.aio.ServicerContext, reserve: Callable[[int], None] = reserve_nothing) -> CallContext:
    remaining = context.time_remaining()
    deadline = None if remaining is None else asyncio.get_running_loop().time() + remaining
    return CallContext(deadline, dict(context.invocation_metadata() or ()), reserve)


def _serving_task(started: set[asyncio.Task[Any]]) -> asyncio.Task[Any]:
    """grpcio's accept loop among the tasks that start() has made; it has no public handle."""
    return next(task for task in started if "_server_main_loop" in repr(task))


def _shutting_down() -> Unavailable:
    return Unavailable("The server is shutting down")
