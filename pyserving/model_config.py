"""What a ModelServerConfig must obey before it becomes the wish. Sentences and order as server_core.cc."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection

from pyserving import protos
from pyserving.errors import FailedPrecondition, InvalidArgument, NotFound

_log = logging.getLogger(__name__)

TENSORFLOW_PLATFORM = "tensorflow"
PYTHON_PLATFORM = "python"


def validate_model_server_config(
    config: protos.ModelServerConfig,
    previous: protos.ModelServerConfig | None = None,
    platforms: Collection[str] = (TENSORFLOW_PLATFORM,),
) -> list[protos.ModelConfig]:
    """The models that `config` lists, when it may follow `previous`; none for an empty config.

    Raises what ServerCore::ReloadConfig answers, in its order: the step from one config to the other, names, base
    paths, platforms that change, platforms that nobody knows; and what a logging_config must not be.
    """
    kind = config.WhichOneof("config")
    previous_kind = previous.WhichOneof("config") if previous is not None else None
    if previous_kind is not None and (previous_kind, kind) != ("model_config_list", "model_config_list"):
        raise FailedPrecondition(
            "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to another."
        )
    if kind is None:
        _log.info("Taking no action for empty config.")
        return []
    if kind == "custom_model_config":
        raise InvalidArgument("ModelServer does not yet support custom model config.")
    models = list(config.model_config_list.config)
    _validate_names(models)
    _validate_base_paths(models)
    if previous is not None:
        _validate_unchanged_platforms(models, previous.model_config_list.config)
    for model in models:
        if (platform := platform_of(model)) not in platforms:
            hint = " without --allow_python_models" if platform == PYTHON_PLATFORM else ""
            raise InvalidArgument(f"Model {model.name} requests unsupported platform {platform}{hint}")
        if platform == PYTHON_PLATFORM and "://" in model.base_path.removeprefix("file://"):
            raise InvalidArgument(
                f"Expected Python model {model.name} to have a base path on a local file system; "
                f"got base_path()={model.base_path}"
            )
    for model in models:
        if model.HasField("logging_config"):
            _validate_logging(model.name, model.logging_config)
    return models


def _validate_names(models: Collection[protos.ModelConfig]) -> None:
    seen: set[str] = set()
    for model in models:
        if model.name in seen:
            raise InvalidArgument(f"Illegal to list model {model.name} multiple times in config list")
        seen.add(model.name)


def _validate_base_paths(models: Collection[protos.ModelConfig]) -> None:
    for model in models:
        if re.match(r"[^/]+://[^/@]*:[^/@]*@", model.base_path):
            raise InvalidArgument(
                f"Expected model {model.name} to have a base path without a password, which logs would show; "
                "credentials belong into the environment"
            )
        if "\0" in model.base_path or not is_absolute(model.base_path):
            raise InvalidArgument(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
            )


_LOG_COLLECTORS = ("", "tfrecord")


def _validate_logging(name: str, config: protos.LoggingConfig) -> None:
    """An unknown collector as log_collector.cc has it; the rest are things that would log nothing, or to nowhere."""
    collector, sampling = config.log_collector_config, config.sampling_config
    if collector.type not in _LOG_COLLECTORS:
        raise NotFound(f"Cannot find LogCollector::Factory for type: {collector.type}")
    if "\0" in collector.filename_prefix or not collector.filename_prefix.startswith("/"):
        raise InvalidArgument(
            f"Expected the logging_config of model {name} to have an absolute path; "
            f"got filename_prefix={collector.filename_prefix}"
        )
    for rate in [sampling.sampling_rate, *(task.sampling_rate for task in sampling.per_task_sampling_configs)]:
        if not 0 <= rate <= 1:  # so written that nan is refused, too
            raise InvalidArgument(f"The sampling_rate of model {name} must be from 0 to 1; was {rate:g}")


def is_absolute(path: str) -> bool:
    """Whether a path stands for itself: `/models/m`, or a URI such as `gs://bucket/m`."""
    return path.startswith("/") or re.match(r"[A-Za-z][0-9A-Za-z.]+://", path) is not None


def _validate_unchanged_platforms(
    models: Collection[protos.ModelConfig], previous: Collection[protos.ModelConfig]
) -> None:
    platforms = {model.name: platform_of(model) for model in previous}
    for model in models:
        old = platforms.get(model.name)
        if old is not None and (new := platform_of(model)) != old:
            raise InvalidArgument(
                f"Illegal to change a model's platform. For model {model.name} platform was {old} and new platform "
                f"requested is {new}"
            )


def platform_of(model: protos.ModelConfig) -> str:
    """The platform a model asks for, by its name or by the deprecated number."""
    if model.model_type and model.model_platform:
        raise InvalidArgument(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, "
            f"model name is {model.name}"
        )
    if model.model_type == protos.ModelType.Value("TENSORFLOW"):
        return TENSORFLOW_PLATFORM
    if model.model_type:
        raise InvalidArgument(f"ModelServerConfig::model_type choice {model.model_type} not supported.")
    if not model.model_platform:
        raise InvalidArgument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
            f"model name is {model.name}"
        )
    return model.model_platform
