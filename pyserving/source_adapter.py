"""SourceAdapter: turns the versions that sources find into the loaders that the manager wants, as platforms and flags
have it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pyserving import config
from pyserving.batching.counts import BatchCounts
from pyserving.batching.parameters import PoolOptions
from pyserving.batching.scheduler import SharedBatchScheduler
from pyserving.batching_session import BatchingSession
from pyserving.executors.executor import Executor
from pyserving.executors.intra_op import keep_ops_in_this_thread
from pyserving.executors.version_folder import has_file
from pyserving.loader import ServableLoader
from pyserving.loop_time import LoopTime
from pyserving.metrics import RunCount
from pyserving.model_metrics import ModelMetrics
from pyserving.options import Options
from pyserving.platforms import Platform
from pyserving.servable import Servable
from pyserving.session import DirectSession, Session
from pyserving.sources.fsspec_storage import FsspecStorage
from pyserving.sources.model_cache import ModelCache
from pyserving.sources.storage import is_remote
from pyserving.sources.version_copy import VersionCopy
from pyserving.spare_time import at_once
from pyserving.types import AspiredVersion, ServableId
from pyserving.warmup import Warmup, WarmupReport, no_warmup
from pyserving.workers import Workers

_MLMD_FILE = "assets.extra/mlmd_uuid"
"""In a version folder: the model's name in a store of machine-learning metadata."""


class SourceAdapter:
    """Makes a loader for each version; what they load shares the threads that run models, and the loop's time."""

    def __init__(
        self,
        settings: Options,
        platform: Callable[[str], Platform],
        running: Workers,
        schedulers: Mapping[PoolOptions, SharedBatchScheduler],
        counts: ModelMetrics,
    ) -> None:
        """`platform` is that of a model by name; each batching pool of any platform has its scheduler."""
        self._settings = settings
        self._platform = platform
        self._running = running
        self._schedulers = schedulers
        self._counts = counts
        self._loop_time = LoopTime(keep_ops_in_this_thread)
        self.compute: Callable[..., Any] = at_once
        """Calls what takes TensorFlow long in a load."""

    def __call__(self, version: AspiredVersion) -> ServableLoader[Servable]:
        platform = self._platform(version.id.name)
        copy = None
        if is_remote(version.path):
            copy = VersionCopy(version, ModelCache(self._settings.model_cache_dir), FsspecStorage())
        return ServableLoader(
            version,
            partial(self._open_executor, platform, version.id),
            partial(self._servable, platform),
            self._warm_up(platform),
            copy,
        )

    def _open_executor(self, platform: Platform, servable_id: ServableId, path: str) -> Executor:
        """In a loading thread."""
        executor = platform.open(servable_id, path, self.compute)
        if platform.config.enable_session_metadata and has_file(path, _MLMD_FILE):
            self._counts.with_mlmd.append(servable_id)
        return executor

    def _servable(self, platform: Platform, path: str, servable_id: ServableId, executor: Executor) -> Servable:
        """In a loading thread."""
        servable = Servable(
            servable_id,
            executor,
            self._session(platform, path, servable_id, executor),
            enable_signature_method_name_check=self._settings.enable_signature_method_name_check,
        )
        # What stays for long is no business of the collector's, which stops requests while it looks. Unloading needs
        # no collection: a model's objects go when they are let go of.
        gc.collect()
        gc.freeze()
        return servable

    def _session(self, platform: Platform, path: str, servable_id: ServableId, executor: Executor) -> Session:
        """In a loading thread."""
        metrics, name, version = self._counts.metrics, servable_id.name, str(servable_id.version)
        count = RunCount(metrics, name, version)
        direct = DirectSession(executor, self._running, count, self._loop_time)
        batching = platform.batching
        if batching is None or not executor.may_be_batched:
            return direct
        queue = batching.queue or config.version_queue_options(path, _read_version_file)
        if queue is None:
            return direct
        return BatchingSession(
            direct,
            self._schedulers[batching.pool],
            queue,
            partial(BatchCounts, metrics, name, version),
            executor.signature_defs,
            observe=count,
            loop_time=self._loop_time,
            may_rerun=not executor.may_change,
        )

    def _warm_up(self, platform: Platform) -> Callable[[str, Servable, WarmupReport], None]:
        if not platform.config.enable_model_warmup:
            return no_warmup
        return Warmup(
            platform.config.model_warmup_options,
            max_expanded_tensor_bytes=self._settings.max_expanded_tensor_bytes,
            enable_signature_method_name_check=self._settings.enable_signature_method_name_check,
        )


def _read_version_file(path: str) -> bytes | None:
    from pyserving.executors import tf_file  # imports TensorFlow, which the model's load has done already

    return tf_file.read(path)
