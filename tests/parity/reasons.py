"""What of TensorFlow Serving's surface is not here as it is there, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pyserving.options import FLAGS, Effect, Flag


@dataclass(frozen=True, slots=True)
class Differs:
    """On purpose."""

    case: str
    """The first cell of its row in docs/differences.md."""


@dataclass(frozen=True, slots=True)
class NotApplicable:
    why: str


@dataclass(frozen=True, slots=True)
class Same:
    """As there, and worth a word."""

    how: str


Reason = Differs | NotApplicable | Same

_NO_SUCH_RPC = NotApplicable("the RPC is answered UNIMPLEMENTED, as there")
_PASSED_OVER = Same("passed over, as there")
_NOT_COUNTED = NotApplicable("TensorFlow counts it, and its counters cannot be read from Python")

_IDLE_FIELD = Differs("`--platform_config_file`: fields that can change nothing")
_NO_REWRITER = NotApplicable("for a graph optimizer that TensorFlow's Python package is without; a warning says so")
_ALWAYS_SO = NotApplicable("nothing else is ever kept")

REASONS: Mapping[str, Reason | None] = {
    "rpc ProfilerService.Terminate": None,
    "rpc ProfilerService.Monitor": Same("UNIMPLEMENTED, as there: for TPUs"),
    "rpc ProfilerService.*": Differs("`--enable_profiler`"),
    "field SessionBundleConfig.session_target": _IDLE_FIELD,
    "field SessionBundleConfig.experimental_transient_ram_bytes_during_load": _IDLE_FIELD,
    "field SessionBundleConfig.resource_estimation_uses_validation_result": Same("changes nothing, as there"),
    "field SessionBundleConfig.in_graph_batching_parameters": Same("changes nothing, as there"),
    "field SessionBundleConfig.experimental_fixed_input_tensors": Same("changes nothing, as there"),
    "field SessionBundleConfig.remove_unused_fields_from_bundle_metagraph": _ALWAYS_SO,
    "field SessionBundleConfig.enable_saved_model_config": Same("fails each load, as there"),
    "field ModelWarmupOptions.num_model_warmup_threads": _IDLE_FIELD,
    "field ModelWarmupOptions.model_*": NotApplicable("no file holds them: the server fills them in for itself"),
    "field ModelWarmupOptions.enable_all_batch_sizes_warmup": Same("each request is replayed in all sizes anyway"),
    "field SavedModelConfig.critical": _PASSED_OVER,
    "field SavedModelConfig.tfrt_runtime_config": _PASSED_OVER,
    "field SessionOverrides.*_config": Differs("`saved_model_config.pb`: settings of graph optimizers"),
    "field RemoteOpRemapConfig.*": _NO_REWRITER,
    "field BatchOpRewriteConfig.*": _NO_REWRITER,
    "field RuntimeConfigProto.*": NotApplicable("for a runtime that tensorflow_model_server is without, too"),
    "field ThreadPoolFactoryConfig.*": Differs("`--thread_pool_factory_config_file`"),
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
    "flag enable_grpc_healthcheck_service": Differs("Health"),
    "flag file_system_poll_wait_seconds": Differs("A base path on remote storage"),
    "flag grpc_max_threads": Differs("`--grpc_max_threads`"),
    "flag model_config_file_poll_wait_seconds": Differs("`--model_config_file_poll_wait_seconds`"),
    "flag monitoring_config_file": Differs("Prometheus page"),
    "flag num_load_threads": Differs("A load or an unload that takes long, or hangs"),
    "flag num_unload_threads": Differs("A load or an unload that takes long, or hangs"),
    "flag ssl_config_file": Differs("TLS"),
    "flag thread_pool_factory_config_file": Differs("`--thread_pool_factory_config_file`"),
    "flag xla_*": Differs("XLA"),
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
    for pattern, reason in REASONS.items():
        if fnmatchcase(item, pattern):
            return reason
    kind, _, name = item.partition(" ")
    return _reason_for_flag(FLAGS[name]) if kind == "flag" else None


def _reason_for_flag(flag: Flag) -> Reason | None:
    """As docs/flags.md has it."""
    if flag.ours:
        return Same("TensorFlow Serving does not have it")
    if flag.effect is Effect.WORKING:
        return None
    if flag.effect is Effect.REFUSED:
        return NotApplicable("what it asks for is not built, so the server does not start with it")
    return NotApplicable(f"{flag.reason or flag.effect.value}; a warning says so")
