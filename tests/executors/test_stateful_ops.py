"""Graphs whose runs leave everything as it was, and graphs of which that cannot be said."""

from __future__ import annotations

import pytest
import tensorflow as tf

from pyserving.executors.stateful_ops import may_change


def chain(*ops: str, control: str = "", function: str = "") -> memoryview:
    """`x`, then a node of each op that has the one before for its input, then `y`, to which an edge of control leads
    from a node of op `control`; `f` is a function with a node of op `function`."""
    graph = tf.compat.v1.GraphDef()
    before = graph.node.add(name="x", op="Placeholder").name
    for number, op in enumerate(ops):
        node = graph.node.add(name=f"n{number}", op=op, input=[before])
        if function and op != "f":
            node.attr["f"].func.name = "f"
        before = node.name
    result = graph.node.add(name="y", op="Identity", input=[f"{before}:0"])
    if control:
        graph.node.add(name="c", op=control)
        result.input.append("^c")
    if function:
        inner = graph.library.function.add()
        inner.signature.name = "f"
        inner.node_def.add(name="inner", op=function)
    return memoryview(graph.SerializeToString())


def meta_graph(*outputs: str, signature: str = "serving_default") -> tf.compat.v1.MetaGraphDef:
    made = tf.compat.v1.MetaGraphDef()
    for name in outputs:
        made.signature_def[signature].outputs[name].name = f"{name}:0"
    return made


@pytest.mark.parametrize(
    "op", ["MatMul", "ReadVariableOp", "VariableV2", "LookupTableFindV2", "StatelessRandomUniformV2"]
)
def test_ops_that_change_nothing(op):
    assert not may_change(chain(op), meta_graph("y"))


@pytest.mark.parametrize(
    "op", ["AssignAddVariableOp", "AssignAdd", "RandomUniform", "QueueDequeueV2", "LookupTableInsertV2", "EagerPyFunc"]
)
def test_ops_that_may_change_something(op):
    assert may_change(chain(op), meta_graph("y"))
    assert may_change(chain("MatMul", control=op), meta_graph("y"))


@pytest.mark.parametrize("call", ["StatefulPartitionedCall", "PartitionedCall", "f"])
@pytest.mark.parametrize(("inner", "changes"), [("AssignAddVariableOp", True), ("ReadVariableOp", False)])
def test_what_is_called_counts_as_if_it_stood_there(call, inner, changes):
    assert may_change(chain(call, function=inner), meta_graph("y")) is changes


def test_what_no_output_comes_by_does_not_count():
    graph = chain("MatMul", "AssignAddVariableOp")
    assert not may_change(graph, meta_graph("n0"))
    assert not may_change(graph, meta_graph("y", signature="__saved_model_init_op"))
    assert may_change(graph, meta_graph("n0", "y"))
