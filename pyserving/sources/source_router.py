"""SourceRouter: local base paths share one source, and each remote one has a source of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TypeAlias

from pyserving.sources.file_system import FileSystemStoragePathSource
from pyserving.sources.storage import is_remote
from pyserving.sources.version_policy import MonitoredServable
from pyserving.types import AspiredVersion

Aspire: TypeAlias = Callable[[str, Sequence[AspiredVersion]], None]


class SourceRouter:
    """To the outside one source. Storage that does not answer holds up no model but its own.

    A model whose base path moves from one kind to the other keeps its versions until the new place was scanned.
    """

    def __init__(
        self,
        aspire: Aspire,
        local: Callable[[Aspire], FileSystemStoragePathSource],
        remote: Callable[[Aspire], FileSystemStoragePathSource],
    ) -> None:
        """`local` and `remote` make sources that call what they are given."""
        self._aspire = aspire
        self._make_remote = remote
        self._local = local(partial(self._route, None))
        self._remote: dict[str, FileSystemStoragePathSource] = {}
        self._names: frozenset[str] = frozenset()
        self._closing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> SourceRouter:
        self._local.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is aspired or un-aspired any more."""
        await asyncio.gather(*(source.close() for source in self._sources()), *self._closing)

    @property
    def problems(self) -> Mapping[str, str]:
        """Model to the reason why its last scan left its versions as they are."""
        return {name: problem for source in self._sources() for name, problem in source.problems.items()}

    @property
    def settling(self) -> Mapping[str, Mapping[int, str]]:
        """Model to its new versions that are waited for, and why."""
        return {name: versions for source in self._sources() for name, versions in source.settling.items()}

    def update_config(self, servables: Sequence[MonitoredServable]) -> None:
        """Monitor these and nothing else, beginning with a scan at once."""
        remote = {servable.name: servable for servable in servables if is_remote(servable.base_path)}
        left = {name: source for name, source in self._remote.items() if name not in remote}
        self._names = frozenset(servable.name for servable in servables)
        self._remote = {name: self._remote.get(name) or self._started(name) for name in remote}
        for source in left.values():
            source.update_config(())
            closing = asyncio.create_task(source.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        self._local.update_config([servable for servable in servables if servable.name not in remote])
        for name, servable in remote.items():
            self._remote[name].update_config([servable])

    async def scanned(self) -> None:
        """Return when all that is monitored now was scanned and handed over, by scans that begin after this call."""
        sources = list(self._sources())
        results = await asyncio.gather(*(source.scanned() for source in sources), return_exceptions=True)
        still_here = set(self._sources())
        for source, result in zip(sources, results, strict=True):
            if isinstance(result, BaseException) and source in still_here:
                raise result

    def _sources(self) -> Iterator[FileSystemStoragePathSource]:
        yield self._local
        yield from self._remote.values()

    def _started(self, name: str) -> FileSystemStoragePathSource:
        source = self._make_remote(partial(self._route, name))
        source.start()
        return source

    def _route(self, remote: str | None, name: str, versions: Sequence[AspiredVersion]) -> None:
        """A source that has lost a model to another one un-aspires it, which is not meant."""
        owner = name if name in self._remote else None
        if owner == remote or name not in self._names:
            self._aspire(name, versions)
