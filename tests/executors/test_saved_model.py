"""Folders that hold a SavedModel, and folders that do not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import saved_model_pb2

from pyserving import protos
from pyserving.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, ServingError, Unimplemented
from pyserving.executors import saved_model
from pyserving.executors.tf_session import open_saved_model
from pyserving.signature import CLASSIFY_METHOD_NAME, DataType, TensorInfo
from tests import models

pytestmark = pytest.mark.usefixtures("session_kind")


@pytest.fixture
def half_plus_two(exported, tmp_path: Path) -> Path:
    """A copy that the test may spoil."""
    return Path(shutil.copytree(exported(models.half_plus_two), tmp_path / "1"))


def refusal(path: Path, **options) -> ServingError:
    with pytest.raises(ServingError) as raised:
        open_saved_model(str(path), **options)
    return raised.value


def edit(path: Path, change) -> None:
    """Let `change` have its way with the only MetaGraphDef of a folder."""
    file = path / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(proto.meta_graphs[0])
    file.write_bytes(proto.SerializeToString())


def test_empty_folder_is_not_found(tmp_path):
    error = refusal(tmp_path)
    assert isinstance(error, NotFound)
    assert str(error) == (
        "Specified file path does not appear to contain a SavedModel bundle (should have a file called "
        f"`saved_model.pb`)\nSpecified file path: {tmp_path}"
    )


def test_session_bundle_is_unimplemented(tmp_path):
    (tmp_path / "export.meta").touch()
    error = refusal(tmp_path)
    assert isinstance(error, Unimplemented)
    assert str(error) == "Session Bundle is deprecated and removed."


@pytest.mark.parametrize("tags", [["serve", "gpu"], ["train"], []])
def test_tags_must_match_exactly(exported, tags):
    error = refusal(exported(models.half_plus_two), tags=tags)
    assert isinstance(error, NotFound)
    assert str(error) == (
        f"Could not find meta graph def matching supplied tags: {{ {' '.join(sorted(tags))} }}. To inspect available "
        "tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`"
    )


@pytest.mark.parametrize(("name", "kind"), [("saved_model.pb", "binary"), ("saved_model.pbtxt", "text")])
def test_file_that_cannot_be_parsed_is_data_loss(tmp_path, name, kind):
    (tmp_path / name).write_bytes(b"\xff not a proto")
    error = refusal(tmp_path)
    assert isinstance(error, DataLoss)
    assert str(error) == f"Can't parse {tmp_path / name} as {kind} proto"


def test_binary_file_is_preferred_to_text(half_plus_two):
    (half_plus_two / "saved_model.pbtxt").write_text("not a proto")
    assert "serving_default" in open_saved_model(str(half_plus_two)).signature_defs


def test_unknown_op_is_named(half_plus_two):
    def change(meta_graph):
        meta_graph.graph_def.node[0].op = "NoSuchOp"

    edit(half_plus_two, change)
    error = refusal(half_plus_two)
    assert isinstance(error, NotFound)
    assert str(error).startswith("Op type not registered 'NoSuchOp' in binary running on ")


def test_broken_graph_is_an_invalid_argument(half_plus_two):
    def change(meta_graph):
        next(node for node in meta_graph.graph_def.node if node.name == "y").input[0] = "nowhere"

    edit(half_plus_two, change)
    error = refusal(half_plus_two)
    assert isinstance(error, InvalidArgument)
    assert str(error) == "Node 'y': Unknown input node 'nowhere'"


def test_lost_variables_are_told_by_tensorflow_without_pythons_decoration(half_plus_two):
    for shard in half_plus_two.glob("variables/variables.data*"):
        shard.unlink()
    error = refusal(half_plus_two)
    assert isinstance(error, NotFound)
    assert "{{node save/RestoreV2" in str(error)
    assert "stack trace" not in str(error)


def test_folder_without_variables_index_restores_nothing(half_plus_two):
    shutil.rmtree(half_plus_two / "variables")
    executor = open_saved_model(str(half_plus_two))
    with pytest.raises(FailedPrecondition, match="uninitialized"):
        executor.plan(("x:0",), ("y:0",)).ways[0].run(np.zeros(1, np.float32))


def test_two_init_ops_are_a_failed_precondition(half_plus_two):
    def change(meta_graph):
        meta_graph.collection_def["saved_model_main_op"].node_list.value.append("init2")

    edit(half_plus_two, change)
    error = refusal(half_plus_two)
    assert isinstance(error, FailedPrecondition)
    assert str(error) == f"Expected exactly one main op in : {half_plus_two}"


def test_legacy_init_op_runs(half_plus_two):
    def change(meta_graph):
        meta_graph.collection_def["legacy_init_op"].CopyFrom(meta_graph.collection_def["saved_model_main_op"])
        del meta_graph.collection_def["saved_model_main_op"]

    edit(half_plus_two, change)
    assert asset_contents(half_plus_two) == models.ASSET_CONTENTS


def test_assets_may_be_listed_in_the_meta_graph(half_plus_two):
    def change(meta_graph):
        for packed in meta_graph.collection_def["saved_model_assets"].any_list.value:
            meta_graph.asset_file_def.add().ParseFromString(packed.value)
        del meta_graph.collection_def["saved_model_assets"]

    edit(half_plus_two, change)
    assert asset_contents(half_plus_two) == models.ASSET_CONTENTS


def asset_contents(path: Path) -> bytes:
    (contents,) = open_saved_model(str(path)).plan((), ("asset_contents:0",)).ways[0].run()
    return contents.item()


def test_signatures_are_read_with_their_tensors(exported):
    meta_graph = saved_model.read_meta_graph(str(exported(models.half_plus_two)), ["serve"])
    signature = saved_model.signature_defs(meta_graph)["classify_x_to_y"]
    assert signature.method_name == CLASSIFY_METHOD_NAME
    assert signature.inputs == {"inputs": TensorInfo("tf_example:0", DataType.DT_STRING, (-1,))}
    assert signature.outputs == {"scores": TensorInfo("y:0", DataType.DT_FLOAT, (-1, 1))}
    assert 'method_name: "tensorflow/serving/classify"' in signature.debug_string


def test_shape_is_none_for_an_unknown_rank_and_empty_for_a_scalar(exported):
    meta_graph = saved_model.read_meta_graph(str(exported(models.string_echo)), ["serve"])
    assert saved_model.signature_defs(meta_graph)["serving_default"].inputs["content"].shape is None
    meta_graph = saved_model.read_meta_graph(str(exported(models.slow)), ["serve"])
    assert saved_model.signature_defs(meta_graph)["serving_default"].inputs["steps"].shape == ()


def test_reference_types_are_read_as_the_types_they_refer_to(exported):
    meta_graph = saved_model.read_meta_graph(str(exported(models.counter)), ["serve"])
    assert meta_graph.signature_def["get_counter"].outputs["output"].dtype == 101
    assert saved_model.signature_defs(meta_graph)["get_counter"].outputs["output"].dtype is DataType.DT_FLOAT


def test_a_type_of_the_future_is_invalid():
    assert saved_model.data_type(99) is DataType.DT_INVALID


def test_defaults_are_decoded(half_plus_two):
    def change(meta_graph):
        tensor = meta_graph.signature_def["serving_default"].defaults["x"]
        tensor.dtype = DataType.DT_FLOAT
        tensor.tensor_shape.dim.add(size=2)
        tensor.float_val.append(7.0)

    edit(half_plus_two, change)
    signature = open_saved_model(str(half_plus_two)).signature_defs["serving_default"]
    assert signature.defaults["x"].dtype == np.float32
    assert signature.defaults["x"].tolist() == [7.0, 7.0]


@pytest.mark.parametrize("model", [models.half_plus_two, models.half_plus_two_tf2, models.counter])
def test_signature_def_map_is_the_meta_graphs_own(exported, model):
    path = exported(model)
    meta_graph = saved_model.read_meta_graph(str(path), ["serve"])
    served = protos.SignatureDefMap.FromString(open_saved_model(str(path)).signature_def_map)
    assert {name: proto.SerializeToString(deterministic=True) for name, proto in served.signature_def.items()} == {
        name: proto.SerializeToString(deterministic=True) for name, proto in meta_graph.signature_def.items()
    }
    assert ("__saved_model_init_op" in served.signature_def) == (model is models.half_plus_two_tf2)


@pytest.mark.parametrize("model", [models.half_plus_two, models.half_plus_two_tf2, models.slow])
def test_signatures_graph_and_ops_are_found_in_the_bytes(exported, model):
    meta_graph = saved_model.read_meta_graph(str(exported(model)), ["serve"])
    signatures, graph = saved_model.split(memoryview(meta_graph.SerializeToString()))
    assert dict(signatures.signature_def) == dict(meta_graph.signature_def)
    assert not signatures.HasField("graph_def")
    assert graph_pb2.GraphDef.FromString(graph) == meta_graph.graph_def
    functions = meta_graph.graph_def.library.function
    ops = {node.op for node in meta_graph.graph_def.node}
    ops |= {node.op for function in functions for node in function.node_def}
    assert saved_model.op_types(graph) == ops - {function.signature.name for function in functions}
