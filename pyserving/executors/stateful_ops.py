"""Whether the runs of a model change it: then a run that has failed must not be made again."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

from tensorflow.python.framework import op_def_registry

from pyserving.executors.saved_model import INIT_OP_SIGNATURE, fields

_HARMLESS = frozenset(
    {
        *("VarHandleOp", "ReadVariableOp", "VarIsInitializedOp", "ResourceGather", "ResourceGatherNd"),
        *("Variable", "VariableV2", "IsVariableInitialized"),
        *("HashTable", "HashTableV2", "LookupTableFind", "LookupTableFindV2", "LookupTableSize", "LookupTableSizeV2"),
        *("StatefulPartitionedCall", "If", "While", "Case", "Assert", "Print", "PrintV2"),
    }
)
"""Ops that TensorFlow calls stateful, so as not to leave them out or merge them, and that leave everything as it was.
What the calls among them call is looked at by itself."""


def may_change(graph: memoryview, meta_graph: Any) -> bool:
    """Whether a run to outputs of a MetaGraphDef's signatures comes by an op that may change something.

    `graph` is its serialized GraphDef. Random numbers count as change, and functions as a whole.
    """
    fetches = {
        output.name
        for name, signature in meta_graph.signature_def.items()
        if name != INIT_OP_SIGNATURE
        for output in signature.outputs.values()
    }
    return any(op not in _HARMLESS and _is_stateful(op) for op in _ops_on_the_way(graph, fetches))


@cache
def _is_stateful(op: str) -> bool:
    """Assign and its like are not called so: they say it by taking a variable's reference."""
    definition = op_def_registry.get(op)
    if definition is None:
        return False
    return bool(definition.is_stateful) or any(argument.is_ref for argument in definition.input_arg)


@cache
def _has_functions(op: str) -> bool:
    """Among its attributes. An op that is not in the registry is a function by itself."""
    definition = op_def_registry.get(op)
    return definition is not None and any(attribute.type in ("func", "list(func)") for attribute in definition.attr)


# Field numbers of graph.proto, function.proto, op_def.proto, node_def.proto and attr_value.proto.
_NODE, _LIBRARY = 1, 2
_FUNCTION, _SIGNATURE, _FUNCTION_NODE = 1, 1, 3
_NAME, _OP, _INPUT, _ATTRIBUTE = 1, 2, 3, 5
_ATTRIBUTE_VALUE, _VALUE_LIST, _VALUE_FUNCTION, _LIST_FUNCTION = 2, 1, 10, 9


def _ops_on_the_way(graph: memoryview, fetches: Collection[str]) -> Iterator[str]:
    """Types of the nodes that lead to `fetches`, and of all nodes in the functions that these call."""
    nodes: dict[str, memoryview] = {}
    functions: dict[str, memoryview] = {}
    for number, _, payload in fields(graph):
        if number == _NODE:
            nodes[_text(_first(payload, _NAME))] = payload
        elif number == _LIBRARY:
            for function in _all(payload, _FUNCTION):
                functions[_text(_first(_first(function, _SIGNATURE), _NAME))] = function
    seen: set[str] = set()
    waiting = [_node_name(fetch) for fetch in fetches]
    called: list[str] = []
    while waiting:
        name = waiting.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        op, inputs, calls = _read(nodes[name])
        yield op
        waiting += inputs
        called += [op, *calls]
    entered: set[str] = set()
    while called:
        name = called.pop()
        if name in entered or name not in functions:
            continue
        entered.add(name)
        for node in _all(functions[name], _FUNCTION_NODE):
            op, _, calls = _read(node)
            yield op
            called += [op, *calls]


def _read(node: memoryview) -> tuple[str, list[str], list[str]]:
    """Its type, the nodes it takes from, and the functions that its attributes name."""
    op, inputs, calls = "", [], []
    for number, _, payload in fields(node):
        if number == _OP:
            op = _text(payload)
        elif number == _INPUT:
            inputs.append(_node_name(_text(payload)))
        elif number == _ATTRIBUTE:
            if not _has_functions(op):
                break  # attributes are many, and come last
            calls += [_text(_first(function, _NAME)) for function in _functions(payload)]
    return op, inputs, calls


def _functions(attribute: memoryview) -> Iterator[memoryview]:
    for value in _all(attribute, _ATTRIBUTE_VALUE):
        yield from _all(value, _VALUE_FUNCTION)
        for several in _all(value, _VALUE_LIST):
            yield from _all(several, _LIST_FUNCTION)


def _all(message: memoryview, wanted: int) -> Iterator[memoryview]:
    return (payload for number, _, payload in fields(message) if number == wanted)


def _first(message: memoryview, wanted: int) -> memoryview:
    return next(_all(message, wanted), message[:0])


def _text(payload: memoryview) -> str:
    return bytes(payload).decode()


def _node_name(tensor: str) -> str:
    """`^name` is an edge of control, `name:1` an output."""
    return tensor.removeprefix("^").partition(":")[0]
