"""Which platforms there are, and what each makes of its config."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from pyserving import machine, platforms, protos
from pyserving.batching.parameters import PoolOptions, QueueOptions
from pyserving.errors import InvalidArgument, Unimplemented
from pyserving.options import Options
from pyserving.platforms import Batching, Platform
from pyserving.spare_time import SpareTime
from pyserving.types import ServableId

ID = ServableId("m", 3)


@pytest.fixture
def file(tmp_path: Path):
    """Writes a text into a file and gives its path."""

    def write(text: str) -> str:
        path = tmp_path / "file.config"
        path.write_text(text)
        return str(path)

    return write


def platform_map(**legacy_configs: str) -> str:
    adapter = "type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig"
    return "".join(
        f'platform_configs {{ key: "{name}" value {{ source_adapter_config {{ '
        f"[{adapter}] {{ legacy_config {{ {config} }} }} }} }} }}"
        for name, config in legacy_configs.items()
    )


def made(**flags: object) -> dict[str, Platform]:
    return dict(platforms.platforms(Options(**flags), cpus=2))


def only(**flags: object) -> Platform:
    (platform,) = made(**flags).values()
    return platform


def session(platform: Platform) -> protos.ConfigProto:
    return protos.ConfigProto.FromString(platform.session_config)


def test_without_a_file_there_is_tensorflow_as_flags_have_it():
    (platform,) = made(saved_model_tags="a,b", tensorflow_session_parallelism=3).values()
    assert (platform.name, platform.tags, platform.batching) == ("tensorflow", {"a", "b"}, None)
    assert session(platform).intra_op_parallelism_threads == 3


def test_python_is_there_when_it_is_allowed_and_shares_the_batches():
    found = made(allow_python_models=True, enable_batching=True)
    assert set(found) == {"tensorflow", "python"}
    assert found["python"].batching == found["tensorflow"].batching != None  # noqa: E711  # a chain reads best here


@pytest.mark.proves("field SessionBundleConfig.batching_parameters", "field SessionBundleConfig.saved_model_tags")
def test_a_file_takes_the_place_of_the_flags(file):
    path = file(platform_map(tensorflow="", tuned='saved_model_tags: "tuned" batching_parameters {}'))
    found = made(platform_config_file=path, saved_model_tags="a", enable_batching=True, mixed_precision="bfloat16")
    assert {name: platform.tags for name, platform in found.items()} == {"tensorflow": {"serve"}, "tuned": {"tuned"}}
    assert found["tensorflow"].batching is None
    assert found["tuned"].batching == Batching(PoolOptions("batch_threads", 2), QueueOptions())
    assert session(found["tensorflow"]) == protos.ConfigProto()


def test_a_file_allows_no_python_models_and_need_not_name_them(file):
    path = file(platform_map(tensorflow="", python="enable_model_warmup: false"))
    assert set(made(platform_config_file=path)) == {"tensorflow"}
    assert not made(platform_config_file=path, allow_python_models=True)["python"].config.enable_model_warmup
    other = file(platform_map(tensorflow=""))
    assert made(platform_config_file=other, allow_python_models=True)["python"].config.enable_model_warmup


ONCE = ", but TensorFlow makes these threads once: the first model to be loaded decides for all"


@pytest.mark.parametrize(
    ("one", "other", "warnings"),
    [
        ("", "", []),
        ("intra_op_parallelism_threads: 2", "intra_op_parallelism_threads: 2", []),
        ("intra_op_parallelism_threads: 2", "", [f"Platforms differ in intra_op_parallelism_threads (0, 2){ONCE}"]),
        (
            "inter_op_parallelism_threads: 2",
            "inter_op_parallelism_threads: 3",
            [f"Platforms differ in inter_op_parallelism_threads (2, 3){ONCE}"],
        ),
        ("inter_op_parallelism_threads: 2", "inter_op_parallelism_threads: 3 use_per_session_threads: true", []),
        ("session_inter_op_thread_pool {}", "inter_op_parallelism_threads: 3", []),
    ],
)
def test_platforms_are_told_which_threads_they_share(file, caplog, one, other, warnings):
    configs = {name: f"session_config {{ {text} }}" for name, text in (("one", one), ("other", other))}
    made(platform_config_file=file(platform_map(**configs)))
    assert caplog.messages == warnings


# Batching


def test_batching_without_a_file_has_defaults():
    assert only(enable_batching=True).batching == Batching(PoolOptions("model_server_batch_threads", 2), QueueOptions())


def test_batching_parameters_come_from_their_file(file):
    path = file("max_batch_size { value: 8 } num_batch_threads { value: 3 }")
    assert only(enable_batching=True, batching_parameters_file=path).batching == Batching(
        PoolOptions("batch_threads", 3), QueueOptions(8, 8)
    )


@pytest.mark.proves("field SessionBundleConfig.enable_per_model_batching_params")
def test_versions_may_have_parameters_of_their_own(file):
    path = file("max_batch_size { value: 0 } num_batch_threads { value: 3 }")
    platform = only(enable_batching=True, batching_parameters_file=path, enable_per_model_batching_parameters=True)
    assert platform.batching == Batching(PoolOptions("batch_threads", 3), None)


@pytest.mark.parametrize("text", ["max_batch_size { value: 0 }", "num_batch_threads { value: 0 }", "max_batch_size: 3"])
def test_bad_batching_parameters_end_the_start(file, text):
    with pytest.raises(InvalidArgument):
        made(enable_batching=True, batching_parameters_file=file(text))


@pytest.mark.proves("field SessionBundleConfig.wrap_session_with_no_threading_params")
def test_a_session_that_ignores_thread_pools_is_not_batched(file):
    path = file(platform_map(tensorflow="batching_parameters {} wrap_session_with_no_threading_params: true"))
    assert only(platform_config_file=path).batching is None


# Mixed precision


@pytest.mark.proves("field SessionBundleConfig.mixed_precision")
def test_bfloat16_is_an_option_of_the_session(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(machine, "why_no_bfloat16", lambda: None)
    config = session(only(mixed_precision="bfloat16"))
    rewriting = config.graph_options.rewrite_options
    assert rewriting.auto_mixed_precision_onednn_bfloat16 == protos.RewriterConfig.ON
    assert caplog.messages == ["Running inference with bfloat16 auto mixed precision"]


def test_a_machine_without_bfloat16_is_told(monkeypatch, caplog):
    monkeypatch.setattr(machine, "why_no_bfloat16", lambda: "it is a Z80")
    made(mixed_precision="bfloat16")
    assert caplog.messages == ["bfloat16 mixed precision changes nothing here: it is a Z80"]


def test_other_precisions_are_told_and_change_nothing(caplog):
    assert session(only(mixed_precision="float8")) == session(only())
    assert caplog.messages == ["Mixed precision float8 changes nothing: only bfloat16 is known"]


# Opening


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, dict[str, Any]]]:
    """What platforms have opened: by what, the path, and the options."""
    found: list[tuple[str, str, dict[str, Any]]] = []
    monkeypatch.setattr(platforms, "open_executor", lambda name, path, **options: found.append((name, path, options)))
    return found


def test_tensorflow_is_told_all_that_a_session_needs(opened):
    flags = {"saved_model_tags": "a,b", "tensorflow_intra_op_parallelism": 3, "enable_batching": True}
    platform = only(**flags)
    compute = SpareTime(lambda: True)
    platform.open(ID, "/m/3", compute)
    ((name, path, told),) = opened
    assert (name, path) == ("tensorflow", "/m/3")
    assert told == {
        "tags": {"a", "b"},
        "session_config": platform.session_config,
        "looks_for_state": True,
        "load_thread_pool": None,
        "compute": compute,
    }


def test_a_platform_of_another_name_is_tensorflow_too(opened, file):
    path = file(platform_map(tuned="session_run_load_threadpool_index {} enable_session_metadata: true"))
    only(platform_config_file=path).open(ID, "/m/3")
    ((name, _, told),) = opened
    assert (name, told["load_thread_pool"]) == ("tensorflow", 0)
    metadata = protos.ConfigProto.FromString(told["session_config"]).experimental.session_metadata
    assert (metadata.name, metadata.version) == ("m", 3)


@pytest.mark.proves(
    "field SessionBundleConfig.prefer_tflite_model",
    "field SessionBundleConfig.num_tflite_pools",
    "field SessionBundleConfig.num_tflite_interpreters",
    "field SessionBundleConfig.num_tflite_interpreters_per_pool",
)
@pytest.mark.parametrize(
    ("config", "pools", "per_pool"),
    [
        ("num_tflite_pools: 3 num_tflite_interpreters: 5", 3, 0),
        ("num_tflite_interpreters: 5 num_tflite_interpreters_per_pool: 2", 5, 2),
    ],
)
def test_tensorflow_lite_is_preferred_where_there_is_a_model_of_it(opened, file, tmp_path, config, pools, per_pool):
    platform = only(platform_config_file=file(platform_map(tensorflow=f"prefer_tflite_model: true {config}")))
    platform.open(ID, str(tmp_path))
    (tmp_path / "model.tflite").touch()
    platform.open(ID, str(tmp_path))
    (first, _, _), (name, _, told) = opened
    assert (first, name) == ("tensorflow", "tflite")
    assert told == {"num_pools": pools, "num_interpreters_per_pool": per_pool}


def test_python_is_told_nothing(opened):
    made(allow_python_models=True)["python"].open(ID, "/m/3")
    assert opened == [("python", "/m/3", {})]


@pytest.mark.proves("field SessionBundleConfig.enable_saved_model_config")
def test_saved_model_config_of_the_server_fails_loads_as_there(file, tmp_path):
    path = file(platform_map(tensorflow="enable_saved_model_config: true"))
    with pytest.raises(Unimplemented, match=r"Saved model config functionality is not implemented\."):
        only(platform_config_file=path).open(ID, str(tmp_path))


def test_sessions_are_named_unless_two_of_one_version_may_be_needed(file, caplog):
    path = file(platform_map(tensorflow="enable_session_metadata: true"))
    assert only(platform_config_file=path).names_sessions
    assert not only(reload_replaced_versions=True).names_sessions
    assert caplog.messages == []
    assert not only(platform_config_file=path, reload_replaced_versions=True).names_sessions
    (warning,) = caplog.messages
    assert warning.startswith("enable_session_metadata names no sessions beside --reload_replaced_versions")
