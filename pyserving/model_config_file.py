"""Follows `--model_config_file`: reads it again and again, and makes the core's wish what it says."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType

from pyserving import config, protos
from pyserving.errors import ServingError
from pyserving.server_core import ServerCore
from pyserving.workers import Workers

_log = logging.getLogger(__name__)

_CANNOT_READ = "Failed to read ModelServerConfig file: %s"
_CANNOT_RELOAD = "PollFilesystemAndReloadConfig failed to ReloadConfig: %s"


class ModelConfigFile:
    """Looks at the file every `poll_wait_seconds`, the first time at once.

    The file prevails: a config that came by HandleReloadConfigRequest is replaced at the next look. While neither the
    file nor the wish changes nothing is done, and an error is logged once; none of them touches what serves. A look
    does not wait for models: what becomes of a changed file is logged when it is known, unless the file has changed
    again by then.
    """

    def __init__(self, path: str, poll_wait_seconds: float, core: ServerCore, reading: Workers) -> None:
        self._path = path
        self._poll_wait_seconds = poll_wait_seconds
        self._core = core
        self._reading = reading
        self._seen: bytes | None = None
        self._wish_then: protos.ModelServerConfig | None = None
        self._complaint = ""
        self._polling: asyncio.Task[None] | None = None
        self._reloading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ModelConfigFile:
        self._polling = asyncio.create_task(self._poll())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [task for task in (self._polling, self._reloading) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def look(self) -> None:
        """Apply the file if it, or the wish, is another than at the last look."""
        try:
            content = await self._read()
            if content == self._seen and self._core.config is self._wish_then:
                return
            self._seen = content
            wish = await self._reading.submit(config.parse_text_proto, content, self._path, protos.ModelServerConfig)
        except ServingError as error:
            self._complain(_CANNOT_READ, error)
        else:
            self._complaint = ""
            self._apply(wish)
        self._wish_then = self._core.config

    async def _read(self) -> bytes:
        try:
            return await self._reading.submit(config.read_file, self._path)
        except ServingError:
            self._seen = None  # once it can be read again it counts, whatever came by a request meanwhile
            raise

    async def _poll(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:  # one look gone wrong must not be the last one
                _log.exception("Following %s failed", self._path)
            await asyncio.sleep(self._poll_wait_seconds)

    def _apply(self, wish: protos.ModelServerConfig) -> None:
        if wish == self._core.config:
            return
        try:
            self._core.apply_config(wish)
        except ServingError as error:
            self._complain(_CANNOT_RELOAD, error)
            return
        if self._reloading is not None:
            self._reloading.cancel()
        self._reloading = asyncio.create_task(self._tell_outcome(wish))

    async def _tell_outcome(self, wish: protos.ModelServerConfig) -> None:
        try:
            await self._core.came_true(wish)
        except ServingError as error:
            self._complain(_CANNOT_RELOAD, error)

    def _complain(self, sentence: str, error: ServingError) -> None:
        if (complaint := sentence % error.message) != self._complaint:
            self._complaint = complaint
            _log.error("%s", complaint)
