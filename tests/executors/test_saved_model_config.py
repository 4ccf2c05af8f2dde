"""What versions say of their own sessions."""

from __future__ import annotations

import base64
import logging
from pathlib import Path

import pytest

from pyserving import protos
from pyserving.executors import saved_model_config


@pytest.fixture
def version(tmp_path: Path):
    """Writes a SavedModelConfig, or bytes, into a version folder and gives the folder's path."""

    def write(**fields: object) -> str:
        content = fields.pop("content", None)
        file = tmp_path / saved_model_config.FILE
        file.parent.mkdir()
        file.write_bytes(
            content if isinstance(content, bytes) else protos.SavedModelConfig(**fields).SerializeToString()
        )
        return str(tmp_path)

    return write


def session(path: str, **base: object) -> protos.ConfigProto:
    config = protos.ConfigProto(**base).SerializeToString()
    return protos.ConfigProto.FromString(saved_model_config.session_config(path, config))


def test_version_without_the_file_has_the_servers_session(tmp_path):
    assert session(str(tmp_path), allow_soft_placement=True) == protos.ConfigProto(allow_soft_placement=True)


@pytest.mark.proves("field SavedModelConfig.critical", "field SavedModelConfig.tfrt_runtime_config")
def test_version_without_overrides_has_the_servers_session(version):
    path = version(critical=True, tfrt_runtime_config={})
    assert session(path, graph_options={"rewrite_options": {"disable_meta_optimizer": True}}) == protos.ConfigProto(
        graph_options={"rewrite_options": {"disable_meta_optimizer": True}}
    )


@pytest.mark.proves("field SessionOverrides.disable_meta_optimizer")
@pytest.mark.parametrize("wished", [True, False, None])
def test_meta_optimizer_is_as_the_version_says_and_on_where_it_says_nothing(version, wished):
    path = version(session_overrides={} if wished is None else {"disable_meta_optimizer": wished})
    before = {"graph_options": {"rewrite_options": {"disable_meta_optimizer": True}}, "allow_soft_placement": True}
    config = session(path, **before)
    assert config.graph_options.rewrite_options.disable_meta_optimizer is bool(wished)
    assert config.allow_soft_placement


@pytest.mark.proves(
    "field SessionOverrides.remote_op_remap_config",
    "field SessionOverrides.batch_op_rewriter_config",
    "difference: `saved_model_config.pb`: settings of graph optimizers",
)
def test_rewriters_get_their_configs_and_a_warning_that_nobody_has_them(version, caplog):
    batching = protos.BatchOpRewriteConfig(batch_options={"m": {"max_batch_size": 9}})
    remapping = protos.RemoteOpRemapConfig(model_name_remap={"a": "b"})
    path = version(session_overrides={"batch_op_rewriter_config": batching, "remote_op_remap_config": remapping})
    known = {
        "name": "batch_op_rewriter",
        "parameter_map": {"batch_op_rewrite_config": {"s": b"before"}, "other": {"i": 1}},
    }
    config = session(path, graph_options={"rewrite_options": {"custom_optimizers": [known]}})

    first, second = config.graph_options.rewrite_options.custom_optimizers
    assert base64.b64decode(first.parameter_map["batch_op_rewrite_config"].s) == batching.SerializeToString()
    assert first.parameter_map["other"].i == 1
    assert second.name == "remote_op_config_rewrite"
    assert base64.b64decode(second.parameter_map["remote_op_rewrite_config"].s) == remapping.SerializeToString()
    assert len(caplog.messages) == 2
    assert "batch_op_rewriter_config is for the graph optimizer batch_op_rewriter" in caplog.messages[1]


def test_file_that_cannot_be_parsed_is_told_and_changes_nothing(version, caplog):
    path = version(content=b"\x0a\xff")
    assert session(path, allow_soft_placement=True) == protos.ConfigProto(allow_soft_placement=True)
    assert caplog.messages == [
        "Failed to load saved model config: INTERNAL: Unable to parse SavedModelConfig: "
        f"{path}/{saved_model_config.FILE}"
    ]


def test_file_that_cannot_be_read_is_told_and_changes_nothing(tmp_path, caplog):
    (tmp_path / saved_model_config.FILE).mkdir(parents=True)
    assert session(str(tmp_path)) == protos.ConfigProto()
    (message,) = caplog.messages
    assert message.startswith("Failed to load saved model config: UNKNOWN: ")


def test_remote_storage_that_cannot_tell_is_told_and_changes_nothing(caplog):
    assert session("ram://m/1", allow_soft_placement=True) == protos.ConfigProto(allow_soft_placement=True)
    assert caplog.messages == []
    assert session("unheard://m/1", allow_soft_placement=True) == protos.ConfigProto(allow_soft_placement=True)
    (message,) = caplog.messages
    assert message.startswith("Failed to load saved model config: UNKNOWN: File system scheme 'unheard' ")


def test_it_is_told_that_there_is_one(version, caplog):
    caplog.set_level(logging.INFO)
    path = version()
    session(path)
    assert caplog.messages == [f"Loading model config from {path}/{saved_model_config.FILE}"]
