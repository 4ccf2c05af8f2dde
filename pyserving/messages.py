"""All that a transport and a front end share: a call's context, its methods, and plain HTTP messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias


def reserve_nothing(size: int) -> None:
    """Where nobody counts."""


Buffer: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class CallContext:
    """What a front end may know of the call besides its body."""

    deadline: float | None = None
    """In `loop.time()` seconds; None: the client waits as long as it takes."""
    metadata: Mapping[str, str | bytes] = field(default_factory=dict)
    reserve: Callable[[int], None] = reserve_nothing
    """Counts bytes of memory that the call is about to take beside its body, until it is answered; ResourceExhausted
    when the server has no more to give."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    method: str
    path: str
    """The target's path as sent, percent-escapes kept."""
    tail: str = ""
    """What follows the path, as sent: `?query`, `#fragment`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    body: Buffer = b""
    reserve: Callable[[int], None] = reserve_nothing
    """As `CallContext.reserve`."""

    @property
    def target(self) -> str:
        return self.path + self.tail


@dataclass(frozen=True, slots=True)
class HttpResponse:
    status: int
    body: Buffer = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    closes: bool = False
    """The connection ends with it."""


Authenticate: TypeAlias = Callable[[str, str, Mapping[str, str | bytes]], None]
"""Told a request's HTTP method (`POST` for gRPC), its path, and its headers or metadata by their names in lower case;
raises ServingError where it must not come in. Who was let in need not be asked again, until there is word that this may
have changed."""
Method: TypeAlias = Callable[[Buffer, CallContext], Awaitable[bytes]]
"""A unary gRPC method: request bytes in, answer bytes out; raises ServingError. Up to its first wait it may run outside
of any task, so that `asyncio.timeout` and task groups come after that."""
StreamMethod: TypeAlias = Callable[[AsyncIterator[Buffer], CallContext], AsyncIterator[bytes]]
"""A streaming gRPC method."""
HttpHandler: TypeAlias = Callable[[HttpRequest], HttpResponse | Coroutine[Any, Any, HttpResponse] | None]
"""Answers a request at once or, where it has to wait, by a coroutine; None: not mine. Up to its first wait the
coroutine may run outside of any task."""


QuickPost: TypeAlias = "Callable[[Buffer], HttpResponse | None]"
"""A handler for POSTs that differ in their bodies alone: given a body, answers it within this turn of the loop. None:
ask the HttpHandler, for nothing has been done. Raises ServingError."""
QuickPosts: TypeAlias = "Callable[[HttpRequest], QuickPost | None]"
"""Given a POST without its body, the quick handler of all that are like it. None: there is none."""


class Later:
    """A request that is answered before this turn of the loop is over: it waits for company, and for nothing else.

    It cannot be given up, and it cannot be late: nothing happens on the loop meanwhile but that more requests are read.
    Each layer that hands it on says what is to be done when its time comes.
    """

    __slots__ = ("began", "deliver", "finish", "place")

    def __init__(self) -> None:
        self.finish: Callable[[Any, Any, float], None]
        """Given this, the outputs or the error of the run, and its microseconds. The front end's."""
        self.began = 0
        """The front end's."""
        self.deliver: Callable[[Later, bytes | Exception], None]
        """Given this and the answer. The transport's."""
        self.place: Any = None
        """The transport's."""


QuickMethod: TypeAlias = Callable[[Buffer, float | None], "bytes | Later | None"]
"""A unary method for requests that it can answer in this turn of the loop, given the deadline too. None: ask the
Method, for nothing has been done. Raises ServingError."""
