"""The platforms that models may have: what each makes of a version folder, in which session and in which batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyserving import machine, protos, session_bundle_config
from pyserving.batching.parameters import PoolOptions, QueueOptions, pool_options, queue_options
from pyserving.errors import Unimplemented
from pyserving.executors.executor import TFLITE_MODEL_FILE, Executor, open_executor
from pyserving.executors.version_folder import has_file
from pyserving.model_config import PYTHON_PLATFORM, TENSORFLOW_PLATFORM
from pyserving.options import Options
from pyserving.spare_time import at_once
from pyserving.types import ServableId

_log = logging.getLogger(__name__)

_BFLOAT16 = "bfloat16"


@dataclass(frozen=True, slots=True)
class Batching:
    """How a platform's requests are run together."""

    pool: PoolOptions
    """Platforms with equal ones share their threads."""
    queue: QueueOptions | None
    """For every version; None: each brings its own or is not batched."""


@dataclass(frozen=True, slots=True)
class Platform:
    """How models of one platform come to be executors."""

    name: str
    """What models give in `model_platform`."""
    config: protos.SessionBundleConfig
    session_config: bytes
    """A serialized tensorflow.ConfigProto."""
    batching: Batching | None = None
    names_sessions: bool = False
    """TensorFlow is told which version a session is of, and refuses a second one of the same."""

    def open(self, servable_id: ServableId, path: str, compute: Callable[..., Any] = at_once) -> Executor:
        """Open the version folder `path`; in a loading thread. Raises the ServingError that says why it failed.

        `compute(function, *args)` calls what takes TensorFlow long.
        """
        config = self.config
        if self.name == PYTHON_PLATFORM:
            return open_executor(PYTHON_PLATFORM, path)
        if config.enable_saved_model_config:  # as saved_model_bundle_factory.cc of the open-source server
            raise Unimplemented("Saved model config functionality is not implemented.")
        if config.prefer_tflite_model and has_file(path, TFLITE_MODEL_FILE):
            return open_executor(
                "tflite",
                path,
                num_pools=config.num_tflite_pools or config.num_tflite_interpreters,
                num_interpreters_per_pool=config.num_tflite_interpreters_per_pool,
            )
        has_pool = config.HasField("session_run_load_threadpool_index")
        return open_executor(
            TENSORFLOW_PLATFORM,
            path,
            tags=self.tags,
            session_config=self._session_config_of(servable_id),
            looks_for_state=self.batching is not None,
            load_thread_pool=config.session_run_load_threadpool_index.value if has_pool else None,
            compute=compute,
        )

    @property
    def tags(self) -> frozenset[str]:
        """The tag set that a MetaGraph must have, no less and no more."""
        return frozenset(self.config.saved_model_tags or ["serve"])

    def _session_config_of(self, servable_id: ServableId) -> bytes:
        if not self.names_sessions:
            return self.session_config
        metadata = {"name": servable_id.name, "version": servable_id.version}
        # Serialized messages that follow one another are read as one.
        return self.session_config + protos.ConfigProto(experimental={"session_metadata": metadata}).SerializeToString()


def platforms(options: Options, cpus: int) -> Mapping[str, Platform]:
    """By name: what `--platform_config_file` lists, or else TensorFlow; Python's if it is allowed.

    Raises the ServingError of a file or a value that cannot be. Beside a platform config file, flags that say how
    models are run are not read.
    """
    if options.platform_config_file:
        configs = session_bundle_config.of_file(options.platform_config_file)
        of_python = session_bundle_config.of_flags(Options())
    else:
        of_python = session_bundle_config.of_flags(options)
        configs = {TENSORFLOW_PLATFORM: of_python}
    if options.allow_python_models:
        configs.setdefault(PYTHON_PLATFORM, of_python)
    else:
        configs.pop(PYTHON_PLATFORM, None)
    _tell_of_shared_threads([config.session_config for name, config in configs.items() if name != PYTHON_PLATFORM])
    may_name = not options.reload_replaced_versions  # which has two sessions of one version for a while
    if not may_name and any(config.enable_session_metadata for config in configs.values()):
        _log.warning(
            "enable_session_metadata names no sessions beside --reload_replaced_versions: TensorFlow refuses a second "
            "one of a name"
        )
    return {name: _platform(name, config, cpus, may_name_sessions=may_name) for name, config in configs.items()}


def _tell_of_shared_threads(sessions: Sequence[protos.ConfigProto]) -> None:
    """TensorFlow makes some threads once, for the first session of the process."""
    within_ops = {session.intra_op_parallelism_threads for session in sessions}
    between_ops = {
        session.inter_op_parallelism_threads
        for session in sessions
        if not session.use_per_session_threads and not session.session_inter_op_thread_pool
    }
    for field, numbers in (
        ("intra_op_parallelism_threads", within_ops),
        ("inter_op_parallelism_threads", between_ops),
    ):
        if len(numbers) > 1:
            _log.warning(
                "Platforms differ in %s (%s), but TensorFlow makes these threads once: the first model to be loaded "
                "decides for all",
                *(field, ", ".join(map(str, sorted(numbers)))),
            )


def _platform(name: str, config: protos.SessionBundleConfig, cpus: int, *, may_name_sessions: bool) -> Platform:
    return Platform(
        name,
        config,
        b"" if name == PYTHON_PLATFORM else _session_config(config),
        _batching(config, cpus),
        names_sessions=config.enable_session_metadata and may_name_sessions,
    )


def _session_config(config: protos.SessionBundleConfig) -> bytes:
    session = protos.ConfigProto()
    session.CopyFrom(config.session_config)
    if config.mixed_precision == _BFLOAT16:
        # As bundle_factory_util.cc. TensorFlow rewrites graphs only where oneDNN can do it.
        session.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = protos.RewriterConfig.ON
        if reason := machine.why_no_bfloat16():
            _log.warning("bfloat16 mixed precision changes nothing here: %s", reason)
        else:
            _log.info("Running inference with bfloat16 auto mixed precision")
    elif config.mixed_precision:
        _log.warning("Mixed precision %s changes nothing: only %s is known", config.mixed_precision, _BFLOAT16)
    return session.SerializeToString()


def _batching(config: protos.SessionBundleConfig, cpus: int) -> Batching | None:
    if not config.HasField("batching_parameters") or config.wrap_session_with_no_threading_params:
        return None
    parameters = config.batching_parameters
    pool = pool_options(parameters, cpus)
    return Batching(pool, None if config.enable_per_model_batching_params else queue_options(parameters))
