"""What of TensorFlow Serving's surface is not here as it is there, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Differs:
    """On purpose."""

    case: str
    """The first cell of its row in docs/differences.md."""


@dataclass(frozen=True, slots=True)
class NotApplicable:
    why: str


@dataclass(frozen=True, slots=True)
class NotYet:
    """Said at start-up, too, where a flag or a file asks for it."""

    what: str


@dataclass(frozen=True, slots=True)
class Same:
    """As there, and worth a word."""

    how: str


Reason = Differs | NotApplicable | NotYet | Same

_NO_SUCH_RPC = NotApplicable("the RPC is answered UNIMPLEMENTED, as there")
_PASSED_OVER = Same("passed over, as there")
_NOT_COUNTED = NotApplicable("TensorFlow counts it, and its counters cannot be read from Python")

_PLATFORM_CONFIG = NotYet("`--platform_config_file` has no effect")
_SAVED_MODEL_CONFIG = NotYet("`assets.extra/saved_model_config.pb` has no effect")

REASONS: Mapping[str, Reason | None] = {
    "rpc ProfilerService.*": NotYet("`--enable_profiler` has no effect; UNIMPLEMENTED"),
    "field PlatformConfig*": _PLATFORM_CONFIG,
    "field SavedModelBundleSourceAdapterConfig.*": _PLATFORM_CONFIG,
    "field SessionBundleConfig.*": _PLATFORM_CONFIG,
    "field ModelWarmupOptions.num_request_iterations": None,
    "field ModelWarmupOptions.*": _PLATFORM_CONFIG,
    "metric :tensorflow:serving:mlmd_map": _PLATFORM_CONFIG,
    "field SavedModelConfig.*": _SAVED_MODEL_CONFIG,
    "field SessionOverrides.*": _SAVED_MODEL_CONFIG,
    "field RemoteOpRemapConfig.*": _SAVED_MODEL_CONFIG,
    "field BatchOpRewriteConfig.*": _SAVED_MODEL_CONFIG,
    "field RuntimeConfigProto.*": _SAVED_MODEL_CONFIG,
    "field ThreadPoolFactoryConfig.*": NotYet("`--thread_pool_factory_config_file` has no effect"),
    "rpc grpc.health.v1.Health.*": Differs("Health"),
    "rpc ModelService.GetModelStatus": Differs("END entries in GetModelStatus"),
    "rpc ModelService.HandleReloadConfigRequest": Differs("HandleReloadConfigRequest"),
    "rest GET metrics": Differs("Prometheus page"),
    "rpc SessionService.SessionRun": Same("UNIMPLEMENTED, as there"),
    "rpc PredictionService.PredictStreamed": Same("UNIMPLEMENTED, as there"),
    "field PredictRequest.predict_streamed_options": _PASSED_OVER,
    "field PredictRequest.client_id": _PASSED_OVER,
    "field PredictRequest.request_options": _PASSED_OVER,
    "field PredictRequest.RequestOptions.*": _PASSED_OVER,
    "field PredictStreamedOptions.*": _PASSED_OVER,
    "field PredictionLog.session_run_log": Same("refused in warm-up files, as there"),
    "field PredictionLog.predict_streamed_log": Same("refused in warm-up files, as there"),
    "field ModelServerConfig.custom_model_config": Same("refused, as there"),
    "field SessionRunRequest.*": _NO_SUCH_RPC,
    "field SessionRunResponse.*": _NO_SUCH_RPC,
    "field SessionRunLog.*": NotApplicable("written by nobody, and refused in warm-up files, as there"),
    "field PredictStreamedLog.*": NotApplicable("written by nobody, and refused in warm-up files, as there"),
    "field LogMetadata.dc": NotApplicable("tells data centres apart, which no request does"),
    "field LogMetadata.request_*": NotApplicable("requests of the open source tell neither origin nor criticality"),
    "field LogMetadata.safe_aggregation_privacy_key": NotApplicable("requests of the open source have none"),
    "field SamplingConfig.attributes": NotApplicable("requests of the open source tell neither origin nor criticality"),
    "field BatchingParameters.max_enqueued_batches": Differs("Batching: `max_enqueued_batches`"),
    "field ModelConfig.version_labels": Differs("A label given together with its version"),
    "field ModelConfig.logging_config": Differs("`logging_config`"),
    "field LoggingConfig.custom_logging_config": NotApplicable("for loggers that are built into the binary"),
    "field LoggingConfig.*": Differs("`logging_config`"),
    "field LogCollectorConfig.*": Differs("`logging_config`"),
    "field SamplingConfig.*": Differs("`logging_config`"),
    "field PerTaskSamplingConfig.*": Differs("`logging_config`"),
    "field FileSystemStoragePathSourceConfig.[a-z]*": NotApplicable(
        "no file holds it: the server makes it of its flags"
    ),
    "field FileSystemStoragePathSourceConfig.ServableToMonitor.*": NotApplicable(
        "no file holds it: the server makes it of its flags"
    ),
    "field PrometheusConfig.enable": Differs("Prometheus page"),
    "metric :tensorflow:serving:request_count": Differs("Names that clients make up"),
    "metric :tensorflow:serving:request_log_count": Differs("`logging_config`"),
    "metric :tensorflow:cc:saved_model:load_latency_by_stage": _NOT_COUNTED,
    "metric :tensorflow:core:graph_run_time_usecs": None,
    "metric :tensorflow:core:graph_*_*": _NOT_COUNTED,
    "metric :tensorflow:core:saved_model:*": _NOT_COUNTED,
}
"""By item; `*` stands for any text, and the first that fits counts. None: as there."""


def reason_for(item: str) -> Reason | None:
    """None: it has to be as it is there, and a test has to prove it."""
    return next((reason for pattern, reason in REASONS.items() if fnmatchcase(item, pattern)), None)
