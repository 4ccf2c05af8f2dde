"""Graphs whose runs end by themselves, and graphs of which nobody can say."""

from __future__ import annotations

import pytest
import tensorflow as tf

from pyserving.executors import graph_ops
from pyserving.executors.executor import open_executor
from tests import models

V1 = tf.compat.v1


def read(graph: tf.Graph) -> graph_ops.GraphOps:
    ops = graph_ops.read(memoryview(graph.as_graph_def().SerializeToString()))
    assert ops is not None
    return ops


def chain(*ops: str, functions: dict[str, list[str]] | None = None) -> graph_ops.GraphOps:
    """`x`, then a node of each op that has the one before for its input, then `y`."""
    graph = tf.compat.v1.GraphDef()
    before = "x"
    graph.node.add(name="x", op="Placeholder")
    for number, op in enumerate(ops):
        node = graph.node.add(name=f"n{number}", op=op, input=[before])
        node.attr["T"].type = 1
        before = node.name
    graph.node.add(name="y", op="Identity", input=[f"{before}:0"])
    for name, within in (functions or {}).items():
        function = graph.library.function.add()
        function.signature.name = name
        for op in within:
            function.node_def.add(name=op.lower(), op=op)
    made = graph_ops.read(memoryview(graph.SerializeToString()))
    assert made is not None
    return made


def is_bounded(*ops: str, functions: dict[str, list[str]] | None = None) -> bool:
    return chain(*ops, functions=functions).are_bounded(["x:0"], ["y:0"])


def test_arithmetic_ends():
    assert is_bounded("Mul", "AddV2", "Relu", "StringLower")


@pytest.mark.parametrize(
    "op",
    [
        *("While", "StatelessWhile", "_While", "For", "Enter", "RefEnter", "NextIteration"),
        *("QueueDequeueV2", "FIFOQueueV2", "BarrierTakeMany", "Stage", "Unstage", "OrderedMapUnstage", "MapPeek"),
        *("PyFunc", "EagerPyFunc", "IteratorGetNext", "ReduceDataset", "AccumulatorTakeGradient", "MutexLock"),
        *("ReadFile", "WriteFile", "TextLineReaderV2", "ReaderReadV2", "TryRpc", "RemoteCall"),
        *("CollectiveReduceV2", "_Send", "_HostRecv", "Batch", "BatchFunction", "Unbatch"),
    ],
)
def test_what_loops_or_waits_may_not_end(op):
    assert not is_bounded("Mul", op)


@pytest.mark.parametrize(
    "op", ["BatchMatMulV2", "SpaceToBatchND", "FusedBatchNormV3", "TensorArrayV3", "LookupTableFindV2"]
)
def test_ops_that_are_only_called_like_them_end(op):
    assert is_bounded(op)


@pytest.mark.parametrize(
    "call", ["PartitionedCall", "StatefulPartitionedCall", "If", "StatelessCase", "MapDefun", "XlaLaunch", "f"]
)
def test_a_call_does_what_functions_do(call):
    assert is_bounded(call, functions={"f": ["Mul"], "g": ["Add"]})
    assert not is_bounded(call, functions={"f": ["Mul"], "g": ["StatelessWhile"]})


def test_functions_that_nothing_calls_do_not_matter():
    assert is_bounded("Mul", functions={"f": ["While"]})


def test_what_is_not_in_reach_does_not_matter():
    graph = tf.Graph()
    with graph.as_default():
        x = V1.placeholder(tf.float32, [None], name="x")
        tf.identity(x * 2, name="y")
        V1.disable_control_flow_v2()
        tf.identity(tf.while_loop(lambda i: tf.reduce_sum(i) < 9, lambda i: (i + 1,), [x]), name="looped")
    ops = read(graph)
    assert ops.are_bounded(["x:0"], ["y:0"])
    assert not ops.are_bounded(["x:0"], ["looped:0"])
    assert not ops.are_bounded(["x:0"], ["y:0", "looped"])


def test_what_is_fed_is_not_computed():
    assert not is_bounded("While", "Mul")
    assert chain("While", "Mul").are_bounded(["n0:0"], ["y:0"])


def test_control_edges_are_followed():
    graph = tf.Graph()
    with graph.as_default():
        read_file = tf.io.read_file(V1.placeholder(tf.string, name="path"))
        x = V1.placeholder(tf.float32, name="x")
        with tf.control_dependencies([read_file]):
            tf.identity(x, name="y")
    assert not read(graph).are_bounded(["x:0", "path:0"], ["y:0"])


def test_a_circle_of_nodes_is_gone_round_once():
    graph = tf.compat.v1.GraphDef()
    graph.node.add(name="a", op="Merge", input=["b"])
    graph.node.add(name="b", op="Switch", input=["a:1"])
    ops = graph_ops.read(memoryview(graph.SerializeToString()))
    assert ops is not None
    assert ops.are_bounded([], ["b:0"])


def test_a_graph_without_nodes_can_be_read():
    assert graph_ops.read(memoryview(b"")) == graph_ops.GraphOps({}, set(), set())


@pytest.mark.parametrize("nodes_in_function", [0, 10])
def test_of_a_large_graph_nothing_is_said(monkeypatch, nodes_in_function):
    monkeypatch.setattr(graph_ops, "MAX_NODES", 20)
    graph = tf.compat.v1.GraphDef()
    for number in range(20 - nodes_in_function):
        graph.node.add(name=f"n{number}", op="Const")
    function = graph.library.function.add()
    function.signature.name = "f"
    for number in range(nodes_in_function):
        function.node_def.add(name=f"n{number}", op="Const")
    assert graph_ops.read(memoryview(graph.SerializeToString())) is not None
    graph.node.add(name="one more", op="Const")
    assert graph_ops.read(memoryview(graph.SerializeToString())) is None


@pytest.mark.usefixtures("session_kind")
@pytest.mark.parametrize(
    ("model", "bounded"),
    [
        (models.half_plus_two, True),  # whose init op reads a file
        (models.half_plus_two_text, True),
        (models.half_plus_two_tf2, True),
        (models.string_echo, True),
        (models.slow, False),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_plans_tell_whether_their_runs_end(exported, model, bounded):
    executor = open_executor("tensorflow", str(exported(model)))
    signature = executor.signature_defs["serving_default"]
    feeds = tuple(info.name for info in signature.inputs.values())
    plan = executor.plan(feeds, tuple(info.name for info in signature.outputs.values()))
    assert plan.is_bounded is bounded


@pytest.mark.usefixtures("session_kind")
def test_a_plan_that_reads_the_file_again_is_not_bounded(exported):
    executor = open_executor("tensorflow", str(exported(models.half_plus_two)))
    assert executor.plan((), ("asset_contents:0",)).is_bounded
    assert not executor.plan((), ("ReadFile:0",)).is_bounded
