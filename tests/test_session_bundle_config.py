"""What is said of sessions, batches and warm-up: by flags, and by a platform config file."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format

from pyserving import protos
from pyserving.errors import InvalidArgument, ServingError
from pyserving.options import Options
from pyserving.session_bundle_config import of_file, of_flags


@pytest.fixture
def file(tmp_path: Path):
    """Writes a text into a file and gives its path."""

    def write(text: str) -> str:
        path = tmp_path / "file.config"
        path.write_text(text)
        return str(path)

    return write


def session(**flags: object) -> protos.ConfigProto:
    return of_flags(Options(**flags)).session_config


# Flags


def test_flags_without_a_value_of_their_own_make_tensorflow_servings_platform():
    assert text_format.MessageToString(of_flags(Options(num_tflite_pools=2))).splitlines() == [
        "session_config {",
        "  gpu_options {",
        "    allow_growth: true",
        "  }",
        "}",
        'saved_model_tags: "serve"',
        "enable_model_warmup: true",
        "remove_unused_fields_from_bundle_metagraph: true",
        "num_tflite_interpreters_per_pool: 1",
        "num_tflite_pools: 2",
    ]


@pytest.mark.proves(
    "field SessionBundleConfig.saved_model_tags",
    "field SessionBundleConfig.enable_model_warmup",
    "field SessionBundleConfig.prefer_tflite_model",
    "field SessionBundleConfig.num_tflite_pools",
    "field SessionBundleConfig.num_tflite_interpreters_per_pool",
    "field SessionBundleConfig.mixed_precision",
)
def test_flags_for_loading_are_handed_on():
    config = of_flags(
        Options(
            saved_model_tags="serve,gpu",
            enable_model_warmup=False,
            prefer_tflite_model=True,
            num_tflite_pools=3,
            num_tflite_interpreters_per_pool=4,
            mixed_precision="bfloat16",
        )
    )
    assert list(config.saved_model_tags) == ["gpu", "serve"]
    assert (config.enable_model_warmup, config.prefer_tflite_model) == (False, True)
    assert (config.num_tflite_pools, config.num_tflite_interpreters_per_pool) == (3, 4)
    assert config.mixed_precision == "bfloat16"


def test_session_takes_the_part_of_gpu_memory_that_a_flag_gives():
    assert session(per_process_gpu_memory_fraction=0.5).gpu_options == protos.GPUOptions(
        per_process_gpu_memory_fraction=0.5
    )


@pytest.mark.parametrize(
    ("both", "intra", "inter", "threads"),
    [(0, 0, 0, (0, 0)), (4, 0, 0, (4, 4)), (4, 2, 0, (2, 0)), (4, 0, 3, (0, 3)), (0, 2, 3, (2, 3))],
)
def test_thread_counts_of_their_own_come_before_the_common_one(both, intra, inter, threads):
    config = session(
        tensorflow_session_parallelism=both,
        tensorflow_intra_op_parallelism=intra,
        tensorflow_inter_op_parallelism=inter,
    )
    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == threads


def test_session_config_file_is_kept_but_for_what_flags_decide(file):
    path = file(
        "allow_soft_placement: true intra_op_parallelism_threads: 9 inter_op_parallelism_threads: 9 "
        "gpu_options { per_process_gpu_memory_fraction: 0.9 visible_device_list: '1' }"
    )
    config = session(tensorflow_session_config_file=path, tensorflow_session_parallelism=2)

    assert config == protos.ConfigProto(
        allow_soft_placement=True,
        intra_op_parallelism_threads=2,
        inter_op_parallelism_threads=2,
        gpu_options={"allow_growth": True, "visible_device_list": "1"},
    )


def test_what_a_session_config_file_says_in_vain_is_told(file, caplog):
    path = file("intra_op_parallelism_threads: 9 inter_op_parallelism_threads: 2")
    session(tensorflow_session_config_file=path, tensorflow_session_parallelism=2)
    assert caplog.messages == [f"{path}: flags decide, given or not, on intra_op_parallelism_threads (9, now 2)"]
    caplog.clear()
    path = file("gpu_options { per_process_gpu_memory_fraction: 0.5 } allow_soft_placement: true")
    session(tensorflow_session_config_file=path)
    assert caplog.messages == [f"{path}: flags decide, given or not, on per_process_gpu_memory_fraction (0.5, now 0)"]


@pytest.mark.parametrize(
    ("flags", "idle"),
    [
        (
            {"tensorflow_session_parallelism": 4, "tensorflow_inter_op_parallelism": 2},
            "--tensorflow_session_parallelism (--tensorflow_intra_op_parallelism and --tensorflow_inter_op_parallelism "
            "say it, also where one is not given)",
        ),
        (
            {"enable_per_model_batching_parameters": True},
            "--enable_per_model_batching_parameters (needs --enable_batching)",
        ),
        (
            {"num_request_iterations_for_warmup": 2, "enable_model_warmup": False},
            "--num_request_iterations_for_warmup (--enable_model_warmup is off)",
        ),
    ],
)
def test_flags_that_others_overrule_are_named(caplog, flags, idle):
    of_flags(Options(**flags))
    assert caplog.messages == [f"Flags that change nothing beside the others: {idle}"]


def test_flags_that_go_together_are_no_reason_to_warn(caplog):
    of_flags(
        Options(
            tensorflow_session_parallelism=4,
            enable_batching=True,
            enable_per_model_batching_parameters=True,
            num_request_iterations_for_warmup=2,
        )
    )
    assert caplog.messages == []


def test_thread_count_that_no_session_can_have_is_refused():
    with pytest.raises(InvalidArgument, match="Too many threads for a session: 4294967296 within an op"):
        session(tensorflow_session_parallelism=2**32)


@pytest.mark.proves("field ModelWarmupOptions.num_request_iterations", "field SessionBundleConfig.model_warmup_options")
@pytest.mark.parametrize(("flag", "text"), [(-1, ""), (0, ""), (1, "num_request_iterations { value: 1 }")])
def test_iterations_of_warm_up_are_set_by_a_positive_flag(flag, text):
    options = of_flags(Options(num_request_iterations_for_warmup=flag)).model_warmup_options
    assert text_format.MessageToString(options, as_one_line=True) == text


def test_batching_parameters_come_from_their_file(file):
    path = file("max_batch_size { value: 8 } num_batch_threads { value: 3 }")
    config = of_flags(Options(enable_batching=True, batching_parameters_file=path))
    assert config.batching_parameters == protos.BatchingParameters(
        max_batch_size={"value": 8}, num_batch_threads={"value": 3}
    )
    assert not config.enable_per_model_batching_params


def test_per_model_batching_needs_batching():
    assert of_flags(Options(enable_batching=True, enable_per_model_batching_parameters=True)).HasField(
        "batching_parameters"
    )
    assert not of_flags(Options(enable_per_model_batching_parameters=True)).enable_per_model_batching_params


# A platform config file


def platform(name: str = "tensorflow", legacy_config: str = "") -> str:
    adapter = "type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig"
    return (
        f'platform_configs {{ key: "{name}" value {{ source_adapter_config {{\n'
        f"  [{adapter}] {{ legacy_config {{\n{legacy_config}\n}} }} }} }} }}\n"
    )


@pytest.mark.proves(
    "field PlatformConfigMap.platform_configs",
    "field PlatformConfig.source_adapter_config",
    "field SavedModelBundleSourceAdapterConfig.legacy_config",
    "field SessionBundleConfig.session_config",
)
def test_file_has_a_config_for_each_platform(file):
    configs = of_file(
        file(
            platform("tensorflow", 'saved_model_tags: "serve" enable_model_warmup: true')
            + platform("large", "session_config { intra_op_parallelism_threads: 7 }")
        )
    )
    assert list(configs) == ["large", "tensorflow"]
    assert configs["tensorflow"] == protos.SessionBundleConfig(saved_model_tags=["serve"], enable_model_warmup=True)
    assert configs["large"].session_config.intra_op_parallelism_threads == 7


def test_file_of_nothing_but_comments_has_no_platforms(file):
    assert of_file(file("# none yet\n")) == {}


def test_error_in_a_file_is_logged_with_its_place(file, caplog):
    path = file(platform(legacy_config="  enable_warmup: true"))
    with pytest.raises(InvalidArgument) as refused:
        of_file(path)
    assert refused.value.message == f"Invalid protobuf file: '{path}'"
    assert caplog.messages[0].startswith("Error parsing text-format tensorflow.serving.PlatformConfigMap: 3:")


@pytest.mark.proves("field PlatformConfig.source_adapter_config")
@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("", "INVALID_ARGUMENT: Supplied config's type_url could not be parsed: "),
        (
            'source_adapter_config { type_url: "x/tensorflow.serving.TfrtSavedModelSourceAdapterConfig" }',
            "INTERNAL: Unable to find compiled-in proto descriptor of type "
            "tensorflow.serving.TfrtSavedModelSourceAdapterConfig",
        ),
        (
            "source_adapter_config { [x/tensorflow.serving.SessionBundleConfig] {} }",
            "INVALID_ARGUMENT: Couldn't find factory for config proto message type "
            "tensorflow.serving.SessionBundleConfig\nconfig=",
        ),
    ],
)
def test_platform_of_another_kind_is_refused(file, value, status):
    with pytest.raises(ServingError) as refused:
        of_file(file(f'platform_configs {{ key: "tensorflow" value {{ {value} }} }}'))
    assert refused.value.status == status


@pytest.mark.proves(
    "field SessionBundleConfig.session_target", "difference: `--platform_config_file`: fields that can change nothing"
)
def test_sessions_of_other_processes_are_refused(file):
    path = file(platform(legacy_config='session_target: "grpc://other:2222"'))
    with pytest.raises(InvalidArgument, match="session_target of the platform tensorflow must be empty"):
        of_file(path)


@pytest.mark.proves(
    "field SessionBundleConfig.experimental_transient_ram_bytes_during_load",
    "field SessionBundleConfig.resource_estimation_uses_validation_result",
    "field SessionBundleConfig.in_graph_batching_parameters",
    "field SessionBundleConfig.experimental_fixed_input_tensors",
    "field ModelWarmupOptions.num_model_warmup_threads",
    "difference: `--platform_config_file`: fields that can change nothing",
)
def test_fields_that_change_nothing_are_named_with_the_reason(file, caplog):
    path = file(
        platform(
            legacy_config="experimental_transient_ram_bytes_during_load: 5 in_graph_batching_parameters {} "
            "resource_estimation_uses_validation_result: true experimental_fixed_input_tensors {} "
            "model_warmup_options { num_model_warmup_threads { value: 4 } } enable_model_warmup: true"
        )
    )
    of_file(path)
    assert caplog.messages == [
        f"{path}: fields of the platform tensorflow that change nothing here: "
        "experimental_transient_ram_bytes_during_load (memory is not reserved for loads), "
        "resource_estimation_uses_validation_result (TensorFlow Serving does not heed it either), "
        "in_graph_batching_parameters (TensorFlow Serving does not heed it either), "
        "experimental_fixed_input_tensors (TensorFlow Serving does not heed it either), "
        "num_model_warmup_threads (requests are replayed one after another, in their order)"
    ]


def test_fields_for_tensorflow_are_idle_for_python(file, caplog):
    said = 'saved_model_tags: "a" mixed_precision: "bfloat16" enable_model_warmup: true batching_parameters {}'
    path = file(platform("python", said) + platform("tensorflow", said))
    of_file(path)
    assert caplog.messages == [
        f"{path}: fields of the platform python that change nothing here: "
        "saved_model_tags (for TensorFlow's models), mixed_precision (for TensorFlow's models)"
    ]


def test_file_that_says_what_can_be_done_is_no_reason_to_warn(file, caplog):
    of_file(file(platform(legacy_config="enable_model_warmup: true model_warmup_options {}")))
    assert caplog.messages == []
