"""Which features a model's graph reads out of tf.Examples: signatures do not tell, the ops that parse do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyserving.codec.signature_def import data_type
from pyserving.commands.sample import SampleTensor

_Nodes = Mapping[str, Any]


def example_features(graph: Any) -> dict[str, SampleTensor]:
    """By name, from all ops of a GraphDef that parse Examples. Of a sparse feature, and of an open dimension, one."""
    found: dict[str, SampleTensor] = {}
    for scope in [graph.node, *(function.node_def for function in graph.library.function)]:
        nodes = {node.name: node for node in scope}
        for node in scope:
            if node.op == "ParseExampleV2":
                found.update(_of_version_2(node, nodes))
            elif node.op == "ParseExample":
                found.update(_of_version_1(node, nodes))
    return dict(sorted(found.items()))


def _of_version_2(node: Any, nodes: _Nodes) -> Iterator[tuple[str, SampleTensor]]:
    """Its inputs: serialized, names, sparse_keys, dense_keys, ragged_keys, and defaults."""
    sparse, dense, ragged = (_strings(input, nodes) for input in node.input[2:5])
    yield from _dense(dense, node)
    yield from _one_each(sparse, node.attr["sparse_types"].list.type)
    yield from _one_each(ragged, node.attr["ragged_value_types"].list.type)


def _of_version_1(node: Any, nodes: _Nodes) -> Iterator[tuple[str, SampleTensor]]:
    """Its inputs: serialized, names, a sparse key each, a dense key each, and defaults."""
    sparse_types = node.attr["sparse_types"].list.type
    keys = [key for input in node.input[2:] for key in _strings(input, nodes)]
    yield from _one_each(keys[: len(sparse_types)], sparse_types)
    yield from _dense(keys[len(sparse_types) :], node)


def _dense(keys: Sequence[str], node: Any) -> Iterator[tuple[str, SampleTensor]]:
    # As many types as keys; version 1 has defaults behind its keys, which may be constant strings, too.
    for key, type_, shape in zip(
        keys, node.attr["Tdense"].list.type, node.attr["dense_shapes"].list.shape, strict=False
    ):
        yield key, SampleTensor(data_type(type_), tuple(max(dim.size, 1) for dim in shape.dim))


def _one_each(keys: Sequence[str], types: Sequence[int]) -> Iterator[tuple[str, SampleTensor]]:
    for key, type_ in zip(keys, types, strict=False):
        yield key, SampleTensor(data_type(type_), (1,))


def _strings(input: str, nodes: _Nodes) -> list[str]:
    """Of the constant that an input names; none of anything else."""
    node = nodes.get(input.split(":")[0])
    if node is None or node.op != "Const":
        return []
    return [value.decode(errors="replace") for value in node.attr["value"].tensor.string_val]
