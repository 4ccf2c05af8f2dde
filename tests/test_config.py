"""Config files and flags, and the configurations that are refused."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from pyserving import protos
from pyserving.batching.parameters import QueueOptions
from pyserving.config import (
    check_thread_pool_factory,
    model_server_config,
    monitoring_path,
    read_text_proto,
    version_queue_options,
)
from pyserving.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, ServingError
from pyserving.model_config import is_absolute, validate_model_server_config
from pyserving.options import Options


@pytest.fixture
def file(tmp_path: Path):
    """Writes a text into a file and gives its path."""

    def write(text: str | bytes) -> str:
        path = tmp_path / "file.config"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write


def models(*models: dict[str, object]) -> protos.ModelServerConfig:
    defaults = {"base_path": "/models/m", "model_platform": "tensorflow"}
    return protos.ModelServerConfig(model_config_list={"config": [defaults | model for model in models]})


# Text files


def test_text_proto_may_have_comments_commas_and_semicolons(file):
    path = file(
        "# ours\nmodel_config_list: {\n  config: { name: 'a', base_path: '/a'; model_platform: 'tensorflow' },\n}"
    )

    config = read_text_proto(path, protos.ModelServerConfig)

    assert [(model.name, model.base_path) for model in config.model_config_list.config] == [("a", "/a")]


def test_text_proto_may_expand_any_messages(file):
    path = file(
        'platform_configs { key: "tensorflow" value { source_adapter_config {'
        "  [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] {"
        '    legacy_config { saved_model_tags: "serve" enable_model_warmup: true } } } } }'
    )

    config = read_text_proto(path, protos.PlatformConfigMap)

    adapter = protos.SavedModelBundleSourceAdapterConfig()
    assert config.platform_configs["tensorflow"].source_adapter_config.Unpack(adapter)
    assert list(adapter.legacy_config.saved_model_tags) == ["serve"]


@pytest.mark.parametrize("text", ["\n", "  \t\n", "# nothing yet\n"])
def test_text_proto_of_whitespace_and_comments_is_the_default_message(file, text):
    assert read_text_proto(file(text), protos.ModelServerConfig) == protos.ModelServerConfig()


def test_missing_text_proto_is_not_found(tmp_path):
    with pytest.raises(NotFound) as caught:
        read_text_proto(str(tmp_path / "none"), protos.ModelServerConfig)
    assert caught.value.message == f"{tmp_path}/none; No such file or directory"


def test_text_proto_without_a_byte_is_invalid(file):
    path = file("")
    with pytest.raises(InvalidArgument) as caught:
        read_text_proto(path, protos.ModelServerConfig)
    assert caught.value.message == f"{path}; Invalid argument"


def test_folder_is_no_text_proto(tmp_path):
    with pytest.raises(FailedPrecondition, match="; Is a directory"):
        read_text_proto(str(tmp_path), protos.ModelServerConfig)


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is readable for root")
def test_text_proto_that_may_not_be_read_is_refused(file):
    path = file("model_config_list {}")
    Path(path).chmod(0)
    with pytest.raises(PermissionDenied, match="; Permission denied"):
        read_text_proto(path, protos.ModelServerConfig)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("model_config_list {\n  confg {}\n}", "2:3: "),
        ("model_config_list { config { name: 5 } }", "1:36: "),
        ("model_config_list {", "1:"),
        ("model_config_list {} custom_model_config {", "1:"),
        (b"model_config_list { config { name: '\xff' } }", "1:1: not UTF-8"),
    ],
)
def test_error_in_a_text_proto_is_logged_with_its_place(file, caplog, text, complaint):
    path = file(text)
    with pytest.raises(InvalidArgument) as caught:
        read_text_proto(path, protos.ModelServerConfig)

    assert caught.value.message == f"Invalid protobuf file: '{path}'"
    (record,) = caplog.records
    assert record.getMessage().startswith(
        f"Error parsing text-format tensorflow.serving.ModelServerConfig: {complaint}"
    )


# Which models


def test_flags_of_one_model_make_a_list_of_one(caplog):
    caplog.set_level(logging.INFO)

    config = model_server_config(Options(model_name="m", model_base_path="/models/m"))

    assert config == models({"name": "m"})
    assert caplog.messages == [
        "Building single TensorFlow model file config:  model_name: m model_base_path: /models/m"
    ]


def test_config_file_wins_over_the_flags_of_one_model(file):
    path = file("model_config_list { config { name: 'b' base_path: '/b' } }")

    config = model_server_config(Options(model_name="a", model_base_path="/a", model_config_file=path))

    assert [model.name for model in config.model_config_list.config] == ["b"]


def test_models_of_a_valid_config_come_in_its_order():
    config = models({"name": "b"}, {"name": "a", "model_platform": "", "model_type": 1})

    assert [model.name for model in validate_model_server_config(config)] == ["b", "a"]


def test_empty_list_is_valid():
    config = models()
    config.model_config_list.SetInParent()

    assert validate_model_server_config(config, previous=models({"name": "a"})) == []


def test_config_with_nothing_set_asks_for_nothing(caplog):
    caplog.set_level(logging.INFO)

    assert validate_model_server_config(protos.ModelServerConfig()) == []
    assert caplog.messages == ["Taking no action for empty config."]


def refusal(config: protos.ModelServerConfig, previous: protos.ModelServerConfig | None = None) -> ServingError:
    with pytest.raises(ServingError) as caught:
        validate_model_server_config(config, previous)
    return caught.value


@pytest.mark.parametrize("next_config", [protos.ModelServerConfig(), protos.ModelServerConfig(custom_model_config={})])
def test_list_can_only_be_followed_by_a_list(next_config):
    error = refusal(next_config, previous=models({"name": "a"}))

    assert isinstance(error, FailedPrecondition)
    assert error.message == (
        "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to another."
    )


@pytest.mark.proves("field ModelServerConfig.custom_model_config")
def test_custom_config_is_not_supported():
    error = refusal(protos.ModelServerConfig(custom_model_config={}))

    assert error.status == "INVALID_ARGUMENT: ModelServer does not yet support custom model config."


def test_names_are_unique():
    error = refusal(models({"name": "a"}, {"name": "b"}, {"name": "a", "base_path": "x"}))

    assert error.status == "INVALID_ARGUMENT: Illegal to list model a multiple times in config list"


def test_relative_base_path_is_refused_before_platforms_are_looked_at():
    error = refusal(models({"name": "a", "base_path": "./a", "model_platform": ""}))

    assert error.status == ("INVALID_ARGUMENT: Expected model a to have an absolute path or URI; got base_path()=./a")


@pytest.mark.proves("difference: A password in a base path")
def test_base_path_with_a_password_is_refused_and_not_repeated():
    error = refusal(models({"name": "a", "base_path": "https://me:secret@host/m"}))

    assert error.status.startswith("INVALID_ARGUMENT: Expected model a to have a base path without a password")
    assert "secret" not in error.status


@pytest.mark.parametrize(
    ("path", "absolute"),
    [
        ("/models/m", True),
        ("gs://bucket/m", True),
        ("s3a.v2://bucket", True),
        ("file:///m", True),
        ("", False),
        ("m", False),
        ("./m", False),
        ("~/m", False),
        ("file:m", False),
        ("://m", False),
        ("a_b://m", False),
    ],
)
def test_base_path_is_absolute_or_a_uri(path, absolute):
    assert is_absolute(path) is absolute


def test_platform_of_a_model_stays():
    error = refusal(models({"name": "a", "model_platform": "other"}), previous=models({"name": "a"}))

    assert error.status == (
        "INVALID_ARGUMENT: Illegal to change a model's platform. For model a platform was tensorflow and new platform "
        "requested is other"
    )


@pytest.mark.proves("field ModelConfig.model_type")
def test_platform_may_be_named_the_old_way_instead():
    config = models({"name": "a", "model_platform": "", "model_type": 1})

    assert len(validate_model_server_config(config, previous=models({"name": "a"}))) == 1


@pytest.mark.proves("field ModelConfig.model_platform", "field ModelConfig.model_type")
@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            {"model_type": 1},
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, "
            "model name is a",
        ),
        ({"model_type": 2, "model_platform": ""}, "ModelServerConfig::model_type choice 2 not supported."),
        (
            {"model_platform": ""},
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
            "model name is a",
        ),
        ({"model_platform": "onnx"}, "Model a requests unsupported platform onnx"),
    ],
)
@pytest.mark.parametrize("previous", [None, models({"name": "z"})])
def test_platform_that_nobody_knows_is_refused(model, sentence, previous):
    assert refusal(models({"name": "a"} | model), previous).status == f"INVALID_ARGUMENT: {sentence}"


def test_further_platforms_can_be_known():
    config = models({"name": "a", "model_platform": "python"})

    assert len(validate_model_server_config(config, platforms={"tensorflow", "python"})) == 1


@pytest.mark.parametrize("base_path", ["s3://bucket/m", "gs://bucket/m", "https://host/m"])
def test_python_models_are_local(base_path):
    config = models({"name": "a", "base_path": base_path, "model_platform": "python"})

    with pytest.raises(InvalidArgument, match=rf"local file system.*got base_path\(\)={base_path}$"):
        validate_model_server_config(config, platforms={"tensorflow", "python"})


def test_python_models_may_lie_behind_a_file_uri():
    config = models({"name": "a", "base_path": "file:///models/m", "model_platform": "python"})

    assert len(validate_model_server_config(config, platforms={"tensorflow", "python"})) == 1


def logging_config(prefix="/logs/m", rate=0.5, **more):
    return {
        "log_collector_config": {"filename_prefix": prefix, **more},
        "sampling_config": {"sampling_rate": rate},
    }


@pytest.mark.proves("field LogCollectorConfig.type")
@pytest.mark.parametrize("type_", ["", "tfrecord"])
def test_requests_may_be_logged_to_files(type_):
    config = models({"logging_config": logging_config(type=type_)})

    assert len(validate_model_server_config(config)) == 1


@pytest.mark.proves("field LogCollectorConfig.type", "difference: `logging_config`")
@pytest.mark.parametrize(
    ("wish", "status"),
    [
        (logging_config(type="kafka"), "NOT_FOUND: Cannot find LogCollector::Factory for type: kafka"),
        (
            logging_config(prefix="logs/m"),
            "INVALID_ARGUMENT: Expected the logging_config of model a to have an absolute path; "
            "got filename_prefix=logs/m",
        ),
        (
            logging_config(prefix="/logs/\0m"),
            "INVALID_ARGUMENT: Expected the logging_config of model a to have an absolute path; "
            "got filename_prefix=/logs/\0m",
        ),
        (logging_config(rate=1.5), "INVALID_ARGUMENT: The sampling_rate of model a must be from 0 to 1; was 1.5"),
        (
            {
                "log_collector_config": {"filename_prefix": "/m"},
                "sampling_config": {"per_task_sampling_configs": [{"sampling_rate": float("nan")}]},
            },
            "INVALID_ARGUMENT: The sampling_rate of model a must be from 0 to 1; was nan",
        ),
    ],
)
def test_logging_that_cannot_be_done_is_refused(wish, status):
    assert refusal(models({"name": "a", "logging_config": wish})).status == status


# Where metrics are


def test_metrics_page_is_at_the_usual_path_when_http_is_open():
    assert monitoring_path(Options(rest_api_port=8501)) == "/monitoring/prometheus/metrics"


@pytest.mark.proves(
    "field MonitoringConfig.prometheus_config",
    "field PrometheusConfig.enable",
    "field PrometheusConfig.path",
    "difference: Prometheus page",
)
@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config { enable: true, path: "/metrics" }', "/metrics"),
        ('prometheus_config { enable: false, path: "/metrics" }', None),
        ("# nothing", None),
    ],
)
def test_monitoring_config_file_decides_where_the_metrics_page_is(file, text, path):
    assert monitoring_path(Options(rest_api_port=8501, monitoring_config_file=file(text))) == path


def test_a_base_path_with_a_nul_is_refused():
    with pytest.raises(InvalidArgument, match="to have an absolute path or URI"):
        validate_model_server_config(models({"name": "m", "base_path": "/mod\0els"}))


def test_version_without_parameters_is_not_batched():
    assert version_queue_options("/m/1", lambda path: None) is None


def test_version_says_how_it_is_batched():
    asked = []

    def read(path: str) -> bytes:
        asked.append(path)
        return b"max_batch_size { value: 4 }"

    assert version_queue_options("/m/1", read) == QueueOptions(4, 4)
    assert asked == ["/m/1/batching_params.pbtxt"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "/m/1/batching_params.pbtxt; Invalid argument"),
        (b"nonsense", "Invalid protobuf file: '/m/1/batching_params.pbtxt'"),
        (b"max_batch_size { }", "input_batch_size_limit must be positive; was 0"),
    ],
)
def test_version_with_bad_parameters_does_not_load(content, sentence):
    with pytest.raises(InvalidArgument) as refused:
        version_queue_options("/m/1", lambda path: content)
    assert str(refused.value) == sentence


# Configs inside of an Any


@pytest.mark.proves(
    "field ThreadPoolFactoryConfig.thread_pool_factory_config", "difference: `--thread_pool_factory_config_file`"
)
@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("# nothing", "INVALID_ARGUMENT: Supplied config's type_url could not be parsed: "),
        (
            'thread_pool_factory_config { type_url: "none/" }',
            "INVALID_ARGUMENT: Supplied config's type_url could not be parsed: none/",
        ),
        (
            'thread_pool_factory_config { type_url: "type.googleapis.com/tensorflow.serving.Pool" }',
            "INTERNAL: Unable to find compiled-in proto descriptor of type tensorflow.serving.Pool",
        ),
        (
            'thread_pool_factory_config { type_url: "a/tensorflow.serving.ModelSpec" value: "\\n\\377" }',
            'INVALID_ARGUMENT: Malformed content of Any: type_url: "a/tensorflow.serving.ModelSpec"\n'
            'value: "\\n\\377"\n',
        ),
        (
            'thread_pool_factory_config { [a/tensorflow.serving.ModelSpec] { name: "m" } }',
            "INVALID_ARGUMENT: Couldn't find factory for config proto message type tensorflow.serving.ModelSpec\n"
            'config=name: "m"\n',
        ),
    ],
)
def test_no_thread_pool_factory_can_be_named(file, text, status):
    with pytest.raises(ServingError) as refused:
        check_thread_pool_factory(Options(thread_pool_factory_config_file=file(text)))
    assert refused.value.status == status


def test_without_the_flag_no_thread_pool_factory_is_looked_for():
    assert check_thread_pool_factory(Options()) is None
