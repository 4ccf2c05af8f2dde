"""SessionBundleConfigs: how models of a platform are loaded, run, batched and warmed up.

Flags make one, as in tensorflow_model_server's server.cc; or a --platform_config_file holds one for each platform.
"""

from __future__ import annotations

import logging

from pyserving import options as flags
from pyserving import protos
from pyserving.batching.parameters import POOL_NAME_WITHOUT_FILE
from pyserving.config import read_text_proto, unpacked
from pyserving.errors import InvalidArgument
from pyserving.model_config import PYTHON_PLATFORM
from pyserving.options import Options

_log = logging.getLogger(__name__)

_SOURCE_ADAPTER = "tensorflow.serving.SavedModelBundleSourceAdapterConfig"
"""The one kind of platform that the stock tensorflow_model_server can be told of."""


def of_flags(options: Options) -> protos.SessionBundleConfig:
    """What the flags for sessions, batching, warm-up and TensorFlow Lite come to.

    Raises InvalidArgument for a bad value or file, NotFound for a file that is not there.
    """
    config = protos.SessionBundleConfig(
        session_config=_session_config(options),
        saved_model_tags=sorted(flags.saved_model_tags(options)),
        enable_model_warmup=options.enable_model_warmup,
        remove_unused_fields_from_bundle_metagraph=options.remove_unused_fields_from_bundle_metagraph,
        prefer_tflite_model=options.prefer_tflite_model,
        num_tflite_pools=options.num_tflite_pools,
        num_tflite_interpreters_per_pool=options.num_tflite_interpreters_per_pool,
        mixed_precision=options.mixed_precision,
    )
    if options.num_request_iterations_for_warmup > 0:
        config.model_warmup_options.num_request_iterations.value = options.num_request_iterations_for_warmup
    if options.enable_batching:
        config.batching_parameters.CopyFrom(_batching_parameters(options))
        config.enable_per_model_batching_params = options.enable_per_model_batching_parameters
    if idle := _idle_flags(options):
        _log.warning("Flags that change nothing beside the others: %s", ", ".join(idle))
    return config


def _idle_flags(options: Options) -> list[str]:
    """Those that others overrule, with the reason. As in TensorFlow Serving, which says nothing of it."""
    has_own_counts = options.tensorflow_intra_op_parallelism > 0 or options.tensorflow_inter_op_parallelism > 0
    idle = []
    if options.tensorflow_session_parallelism > 0 and has_own_counts:
        own = "--tensorflow_intra_op_parallelism and --tensorflow_inter_op_parallelism"
        idle.append(f"--tensorflow_session_parallelism ({own} say it, also where one is not given)")
    if options.enable_per_model_batching_parameters and not options.enable_batching:
        idle.append("--enable_per_model_batching_parameters (needs --enable_batching)")
    if options.num_request_iterations_for_warmup > 0 and not options.enable_model_warmup:
        idle.append("--num_request_iterations_for_warmup (--enable_model_warmup is off)")
    return idle


def _session_config(options: Options) -> protos.ConfigProto:
    """The config file's, with what flags decide put over it."""
    config, path = protos.ConfigProto(), options.tensorflow_session_config_file
    if path:
        config = read_text_proto(path, protos.ConfigProto)
    before = _of_flags_alone(config)
    intra, inter = _parallelism(options)
    try:
        config.intra_op_parallelism_threads, config.inter_op_parallelism_threads = intra, inter
    except ValueError:  # the flags have 64 bits, the fields 32
        raise InvalidArgument(f"Too many threads for a session: {intra} within an op, {inter} between ops") from None
    config.gpu_options.per_process_gpu_memory_fraction = options.per_process_gpu_memory_fraction
    if not options.per_process_gpu_memory_fraction:
        config.gpu_options.allow_growth = True
    after = _of_flags_alone(config)
    replaced = [
        f"{name} ({value:g}, now {after[name]:g})" for name, value in before.items() if value not in (0, after[name])
    ]
    if replaced:
        _log.warning("%s: flags decide, given or not, on %s", path, ", ".join(replaced))
    return config


def _of_flags_alone(config: protos.ConfigProto) -> dict[str, float]:
    """Fields that a file fills in vain, and what they are, 0 where they are not given."""
    return {
        "intra_op_parallelism_threads": config.intra_op_parallelism_threads,
        "inter_op_parallelism_threads": config.inter_op_parallelism_threads,
        "per_process_gpu_memory_fraction": config.gpu_options.per_process_gpu_memory_fraction,
    }


def _parallelism(options: Options) -> tuple[int, int]:
    """Threads within an op and between ops; 0: TensorFlow chooses."""
    intra, inter = options.tensorflow_intra_op_parallelism, options.tensorflow_inter_op_parallelism
    if intra > 0 or inter > 0:
        return intra, inter
    return options.tensorflow_session_parallelism, options.tensorflow_session_parallelism


def _batching_parameters(options: Options) -> protos.BatchingParameters:
    if options.batching_parameters_file:
        return read_text_proto(options.batching_parameters_file, protos.BatchingParameters)
    return protos.BatchingParameters(thread_pool_name={"value": POOL_NAME_WITHOUT_FILE})


def of_file(path: str) -> dict[str, protos.SessionBundleConfig]:
    """What the text-format PlatformConfigMap in a file holds, by the platform's name.

    Raises NotFound, InvalidArgument or Internal in TensorFlow Serving's words. Fields that can have no effect here are
    named in one warning for each platform.
    """
    platforms = read_text_proto(path, protos.PlatformConfigMap).platform_configs
    configs = {}
    for name in sorted(platforms):
        adapter = unpacked(platforms[name].source_adapter_config, [_SOURCE_ADAPTER])
        assert isinstance(adapter, protos.SavedModelBundleSourceAdapterConfig)
        configs[name] = adapter.legacy_config
        if adapter.legacy_config.session_target:
            raise InvalidArgument(
                f"{path}: session_target of the platform {name} must be empty: models run in this process only"
            )
        if idle := _idle_fields(name, adapter.legacy_config):
            _log.warning("%s: fields of the platform %s that change nothing here: %s", path, name, ", ".join(idle))
    return configs


_NOT_HEEDED_THERE = "TensorFlow Serving does not heed it either"
_IDLE_FIELDS = {
    "experimental_transient_ram_bytes_during_load": "memory is not reserved for loads",
    "resource_estimation_uses_validation_result": _NOT_HEEDED_THERE,
    "in_graph_batching_parameters": _NOT_HEEDED_THERE,
    "experimental_fixed_input_tensors": _NOT_HEEDED_THERE,
}


_OF_TENSORFLOW = (
    "session_config",
    "session_run_load_threadpool_index",
    "saved_model_tags",
    "enable_saved_model_config",
    "mixed_precision",
    "prefer_tflite_model",
    "num_tflite_pools",
    "num_tflite_interpreters",
    "num_tflite_interpreters_per_pool",
)


def _idle_fields(platform: str, config: protos.SessionBundleConfig) -> list[str]:
    given = {field.name for field, _ in config.ListFields()}
    idle = [f"{name} ({reason})" for name, reason in _IDLE_FIELDS.items() if name in given]
    if platform == PYTHON_PLATFORM:
        idle += [f"{name} (for TensorFlow's models)" for name in _OF_TENSORFLOW if name in given]
    if config.model_warmup_options.num_model_warmup_threads.value > 1:
        idle.append("num_model_warmup_threads (requests are replayed one after another, in their order)")
    return idle
