"""gRPC on our own HTTP/2 connections: bytes in, bytes out, by the full path of the method. The fast transport."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping, Sequence
from types import TracebackType

from pyserving.errors import ServingError
from pyserving.messages import Authenticate, Method, QuickMethod, StreamMethod
from pyserving.transports import addresses as listening
from pyserving.transports import unix_socket
from pyserving.transports.acceptor import OPEN_DOOR, Acceptor, Door
from pyserving.transports.admission import Admission
from pyserving.transports.busy_poll import NEVER, BusyPoll
from pyserving.transports.http2 import channel_arguments as arguments
from pyserving.transports.http2.header_cache import Heads
from pyserving.transports.http2.limits import Limits
from pyserving.transports.http2.message_reader import DataOffset
from pyserving.transports.http2.service import Service
from pyserving.transports.http2.wire import ReceiveBuffer, Wire

_log = logging.getLogger(__name__)
_RECEIVE_BYTES = 256 << 10
_LAST_WORDS_SECONDS = 0.5
"""For what was said at the end to be sent, once the grace time is over."""


class Http2Server:
    """Serves unary and streaming methods on TCP ports and unix sockets while the context is open.

    Unary calls pass through `admission`, health checks excepted. Addresses are gRPC's: `0.0.0.0:8500`, `unix:/path`.
    Channel arguments are gRPC's, too; those that have no meaning here are named in a warning.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        stream_methods: Mapping[str, StreamMethod],
        *,
        addresses: Sequence[str],
        admission: Admission,
        channel_arguments: Sequence[tuple[str, int | str]] = (),
        limits: Limits | None = None,
        data_offset: DataOffset = lambda head, size: None,
        door: Door = OPEN_DOOR,
        quick_methods: Mapping[str, QuickMethod] | None = None,
        authenticate: Authenticate | None = None,
        busy_poll: BusyPoll = NEVER,
    ) -> None:
        """`data_offset`, given the first bytes of a large request and its length, tells which of its bytes to align
        for TensorFlow. What secures the door must offer `h2` by ALPN. `quick_methods` are asked before the methods of
        the same path are."""
        self.ports: list[int] = []
        """The TCP ports in the order of their addresses; known once the server is open."""
        self.wires: set[Wire] = set()
        """Connections that are open."""
        self._addresses = list(addresses)
        self._limits = arguments.limits(channel_arguments, limits or Limits())
        self._reuse_port = arguments.flag(channel_arguments, arguments.REUSE_PORT)
        self._reuse_address = arguments.flag(channel_arguments, arguments.REUSE_ADDRESS)
        self._door = door
        heads = Heads(self._limits.max_header_list, authenticate)
        self._service = Service(
            methods, stream_methods, admission, self._limits, data_offset, heads, quick_methods or {}, busy_poll
        )
        self._receive = ReceiveBuffer(_RECEIVE_BYTES)
        self._acceptor: Acceptor | None = None
        self._socket_files: list[unix_socket.SocketFile] = []
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._is_stopping = False

    @property
    def port(self) -> int:
        """The first TCP port."""
        return self.ports[0]

    async def __aenter__(self) -> Http2Server:
        """InvalidArgument, as TensorFlow Serving's, when an address cannot be had."""
        listeners: list[socket.socket] = []
        try:
            for address in self._addresses:
                listeners.append(self._listener(address))
        except ServingError:
            for listener in listeners:
                listener.close()
            self._remove_socket_files()
            raise
        self._acceptor = Acceptor("gRPC", self._wire, self.wires, self._door, self._limits.handshake_timeout)
        self._acceptor.open(listeners)
        for file in self._socket_files:
            _log.info("The socket %s has mode %04o, as the umask leaves it", file.path, file.mode)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop(0.0)

    async def stop(self, grace_seconds: float) -> None:
        """Accept nobody, tell clients to go elsewhere, answer the calls they have sent by then, end streams; cancel
        what is left after the grace time."""
        if self._is_stopping or self._acceptor is None:
            return
        self._is_stopping = True
        self._acceptor.close()
        for wire in tuple(self.wires):
            wire.connection.departure.drain(ends_streams=True)
        await self._all_closed(grace_seconds)
        await self._acceptor.abandon_handshakes()
        for wire in tuple(self.wires):
            wire.connection.departure.cut_off()
        await self._all_closed(_LAST_WORDS_SECONDS)
        for wire in tuple(self.wires):
            wire.connection.abort()
        await self._all_closed(None)
        if self._service.ending:
            await asyncio.wait(self._service.ending, timeout=_LAST_WORDS_SECONDS)
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._remove_socket_files()

    async def _all_closed(self, timeout: float | None) -> None:
        if self.wires:
            await asyncio.wait([wire.connection.closed for wire in self.wires], timeout=timeout)

    def authenticate_anew(self) -> None:
        """Calls to come, on whatever connection; those that have been let in go on."""
        self._service.heads.forget()
        for wire in self.wires:
            wire.connection.forget_heads()

    def _listener(self, address: str) -> socket.socket:
        path = listening.socket_path(address)
        if path is None:
            listener = listening.tcp_listener(address, reuse_address=self._reuse_address, reuse_port=self._reuse_port)
            self.ports.append(listener.getsockname()[1])
            return listener
        listening.make_room(path)
        listener = listening.unix_listener(path)
        self._socket_files.append(unix_socket.SocketFile(path))
        return listener

    def _remove_socket_files(self) -> None:
        for file in self._socket_files:
            file.remove()

    # Connections

    def _wire(self) -> Wire:
        return Wire(self._service, self._receive, self.wires, self._opened)

    def _opened(self, wire: Wire) -> None:
        if self._acceptor is not None:
            self._acceptor.has_opened(wire)
        if not wire.is_agreed:
            _log.debug("A TLS client that has not asked for HTTP/2 is refused")
            wire.connection.abort()
        elif self._is_stopping:  # accepted just before the listeners were closed
            wire.connection.departure.drain(ends_streams=True)
        elif self._sweep_timer is None:
            self._sweep_later()

    def _sweep_later(self) -> None:
        # One timer for all connections, so that a busy one never touches a timer.
        self._sweep_timer = asyncio.get_running_loop().call_later(self._limits.tick, self._sweep)

    def _sweep(self) -> None:
        self._sweep_timer = None
        now = asyncio.get_running_loop().time()
        for wire in tuple(self.wires):
            wire.connection.check(now, is_mid_frame=wire.is_mid_frame)
        if self.wires:
            self._sweep_later()
