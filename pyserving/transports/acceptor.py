"""Takes connections in from listening sockets: so many and no more, secured where they are to be."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

_log = logging.getLogger(__name__)

_AT_ONCE = 128
"""Connections taken in one turn of the loop; other work has its turn in between."""
_RETRY_SECONDS = 1.0
"""After the system had no descriptor or no memory for a connection."""
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_QUIET_SECONDS = 60.0
"""Between two lines in the log about the same trouble."""
_SHUTDOWN_SECONDS = 5.0
"""For a client's own farewell over TLS, once we have said ours."""


@dataclass(frozen=True, slots=True)
class Door:
    """Whom a port lets in."""

    max_connections: int = 1 << 14
    """Those that are being secured included; further ones are closed at once."""
    tls: Callable[[], ssl.SSLContext] | None = None
    """What secures the next connection; None: nothing does."""
    on_refused: Callable[[], None] = lambda: None
    """Called for each connection over the limit."""
    on_failed_handshake: Callable[[], None] = lambda: None


OPEN_DOOR = Door()


class Acceptor:
    """Accepts for one server, from `open()` on. Each connection gets a protocol of its own.

    The server keeps the protocols whose connections are open, and says `has_opened` of each.
    """

    def __init__(
        self,
        name: str,
        new_protocol: Callable[[], asyncio.BaseProtocol],
        connections: Collection[asyncio.BaseProtocol],
        door: Door,
        handshake_timeout_seconds: float,
    ) -> None:
        """`connections`: those that are open at any time. `name` is for the log."""
        self._name = name
        self._new_protocol = new_protocol
        self._connections = connections
        self._door = door
        self._handshake_timeout_seconds = handshake_timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._listeners: Sequence[socket.socket] = ()
        self._opening: set[asyncio.Task[None]] = set()
        self._unopened: set[asyncio.BaseProtocol] = set()
        self._retries: dict[socket.socket, asyncio.TimerHandle] = {}
        self._silent_until: dict[str, float] = {}

    def open(self, listeners: Sequence[socket.socket]) -> None:
        """Accept from them, and own them."""
        self._listeners = listeners
        for listener in listeners:
            listener.setblocking(False)
            self._loop.add_reader(listener, self._accept, listener)

    def has_opened(self, protocol: asyncio.BaseProtocol) -> None:
        """Its connection is secured where it has to be, and is among the server's own now."""
        self._unopened.discard(protocol)

    def close(self) -> None:
        """Accept no more. Connections that are being opened go on."""
        for retry in self._retries.values():
            retry.cancel()
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()
        self._listeners = ()

    async def abandon_handshakes(self) -> None:
        """Give up the connections that are being opened."""
        opening = tuple(self._opening)
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # it was gone before we came
            except OSError as error:
                self._pause(listener, error)
                return
            self._welcome(connection)

    def _pause(self, listener: socket.socket, error: OSError) -> None:
        """The listener stays readable, so that asking again at once would be all we did."""
        known = error.errno in _EXHAUSTED
        hint = " (ulimit -n bounds open files, --max_connections connections)" if known else ""
        self._complain(f"cannot accept connections: {error.strerror}{hint}; trying every {_RETRY_SECONDS:g} s")
        self._loop.remove_reader(listener)
        self._retries[listener] = self._loop.call_later(_RETRY_SECONDS, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        del self._retries[listener]
        self._loop.add_reader(listener, self._accept, listener)

    def _welcome(self, connection: socket.socket) -> None:
        if len(self._connections) + len(self._unopened) >= self._door.max_connections:
            connection.close()
            self._door.on_refused()
            self._complain(f"{self._door.max_connections} connections are open (--max_connections); others are refused")
            return
        connection.setblocking(False)
        protocol = self._new_protocol()
        task = self._loop.create_task(self._open(connection, protocol))
        self._opening.add(task)
        self._unopened.add(protocol)
        task.add_done_callback(partial(self._opening_ended, connection, protocol))

    def _opening_ended(
        self, connection: socket.socket, protocol: asyncio.BaseProtocol, task: asyncio.Task[None]
    ) -> None:
        self._opening.discard(task)
        self._unopened.discard(protocol)
        if task.cancelled():
            connection.close()
        elif (error := task.exception()) is not None:
            connection.close()
            self._did_not_open(error)

    def _did_not_open(self, error: BaseException) -> None:
        if isinstance(error, ssl.SSLError):
            self._door.on_failed_handshake()
            self._complain(f"a TLS handshake failed: {_reason(error)}")
        elif isinstance(error, OSError):  # the client went away, or never said a word: anybody's port scan
            _log.debug("A connection to the %s port did not come about: %s", self._name, error)
        else:
            _log.error("A connection to the %s port could not be opened", self._name, exc_info=error)

    async def _open(self, connection: socket.socket, protocol: asyncio.BaseProtocol) -> None:
        if self._door.tls is None:
            await self._loop.connect_accepted_socket(lambda: protocol, connection)
            return
        timeouts = {"ssl_handshake_timeout": self._handshake_timeout_seconds}
        if sys.version_info >= (3, 11):
            timeouts["ssl_shutdown_timeout"] = _SHUTDOWN_SECONDS
        await self._loop.connect_accepted_socket(lambda: protocol, connection, ssl=self._door.tls(), **timeouts)

    def _complain(self, trouble: str) -> None:
        now = self._loop.time()
        if now >= self._silent_until.get(trouble, now):
            self._silent_until[trouble] = now + _QUIET_SECONDS
            _log.warning("The %s port: %s", self._name, trouble)


def _reason(error: ssl.SSLError) -> str:
    """In OpenSSL's words; few enough different ones to remember which were said."""
    words = (error.reason or type(error).__name__).replace("_", " ").lower()
    detail = getattr(error, "verify_message", None)
    return f"{words}: {detail}" if detail else words
