"""grpc.health.v1.Health: whether the server, its services and each model can take requests, asked once or watched."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable

from google.protobuf.message import DecodeError

from pyserving import protos
from pyserving.errors import InvalidArgument, NotFound
from pyserving.messages import Buffer, CallContext, Method, StreamMethod
from pyserving.types import ManagerState, ServableState

SERVING = 1
NOT_SERVING = 2
SERVICE_UNKNOWN = 3
"""Integers of HealthCheckResponse.ServingStatus."""

SERVICE_NAMES = (
    "",
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
    # As server.cc registers them.
    "PredictionService",
    "ModelService",
)
"""The server as a whole, and its services by the names people ask for."""


class Health:
    """Statuses by name, and who watches them.

    Services are SERVING between `ready()` and `drain()`; a model is when a version of it is AVAILABLE. After `drain()`
    nothing is, and watches end once they have said so.
    """

    def __init__(self, service_names: Iterable[str] = SERVICE_NAMES) -> None:
        self._services = frozenset(service_names)
        self._statuses = dict.fromkeys(self._services, NOT_SERVING)
        self._available: defaultdict[str, set[int]] = defaultdict(set)
        self._watchers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._draining = False
        self.methods: dict[str, Method] = {
            "/grpc.health.v1.Health/Check": self._check,
            "/grpc.health.v1.Health/List": self._list,
        }
        self.stream_methods: dict[str, StreamMethod] = {"/grpc.health.v1.Health/Watch": self._watch}

    def status(self, name: str) -> int:
        """SERVICE_UNKNOWN for a name that has never been set."""
        return self._statuses.get(name, SERVICE_UNKNOWN)

    @property
    def watchers(self) -> int:
        """Watches that are open."""
        return sum(map(len, self._watchers.values()))

    def set(self, name: str, status: int) -> None:
        """What is asked for `name` from now on, until the server drains."""
        if self._draining:
            status = NOT_SERVING
        if self.status(name) == status:
            return
        self._statuses[name] = status
        self._wake(name)

    def ready(self) -> None:
        """The server takes requests."""
        for name in self._services:
            self.set(name, SERVING)

    def drain(self) -> None:
        """The server takes no more requests, for good."""
        self._draining = True
        for name in tuple(self._statuses):
            self.set(name, NOT_SERVING)
        for name in tuple(self._watchers):
            self._wake(name)

    def on_state(self, state: ServableState) -> None:
        """Follow a version's life; subscribe this to the monitor."""
        name, versions = state.id.name, self._available[state.id.name]
        if state.manager_state is ManagerState.AVAILABLE:
            versions.add(state.id.version)
        else:
            versions.discard(state.id.version)
        if name not in self._services:
            self.set(name, SERVING if versions else NOT_SERVING)

    def _wake(self, name: str) -> None:
        for watcher in self._watchers.get(name, ()):
            watcher.set()

    async def _check(self, body: Buffer, call: CallContext) -> bytes:
        status = self.status(_service(body))
        if status == SERVICE_UNKNOWN:
            raise NotFound("service name unknown")
        return _response(status)

    async def _list(self, body: Buffer, call: CallContext) -> bytes:
        response = protos.HealthListResponse()
        for name, status in self._statuses.items():
            response.statuses[name].status = status
        return response.SerializeToString()

    async def _watch(self, requests: AsyncIterator[Buffer], call: CallContext) -> AsyncIterator[bytes]:
        body = await anext(requests, None)
        if body is None:
            return
        name = _service(body)
        changed = asyncio.Event()
        self._watchers[name].add(changed)
        try:
            told = None
            while True:
                changed.clear()
                if (status := self.status(name)) != told:
                    told = status
                    yield _response(status)  # and look again: it may have changed while that was sent
                elif self._draining:
                    return
                else:
                    await changed.wait()
        finally:
            self._watchers[name].discard(changed)
            if not self._watchers[name]:
                del self._watchers[name]


def _service(body: Buffer) -> str:
    try:
        return protos.HealthCheckRequest.FromString(bytes(body)).service
    except DecodeError:
        raise InvalidArgument("could not parse request") from None


def _response(status: int) -> bytes:
    return protos.HealthCheckResponse(status=status).SerializeToString()
