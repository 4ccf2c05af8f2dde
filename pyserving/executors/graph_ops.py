"""The ops that a run of some tensors comes by, and whether one of them may go on, or wait, for as long as it likes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from pyserving.executors.saved_model import fields

MAX_NODES = 2000
"""A graph of more is no candidate for runs that are over at once, and reading it takes time from others."""

_LOOPS = r"_?(?:Stateless)?While|For|(?:Ref)?(?:Enter|NextIteration)"
_WAITING = r"Batch(?:Function)?|Unbatch|(?:Read|Write)File|RemoteCall|(?:Ordered)?MapPeek"
_FAMILIES = (
    r"Queue|Barrier|[Ss]tage|PyFunc|Iterator|Dataset|Accumulator|Mutex|Reader|Rpc|Collective|Send|Recv|HostCompute"
)
_ENDLESS = re.compile(rf"{_LOOPS}|{_WAITING}|.*(?:{_FAMILIES}).*")
"""Loops, whose end a request may put off for ever, and ops that wait for other runs, Python, files or the network."""
_CALLS = re.compile(
    r"(?:Stateful|TPU)?PartitionedCall|_?(?:Stateless)?If|(?:Stateless)?Case|MapDefun|SymbolicGradient|XlaLaunch"
)
"""Ops that run functions named in their attributes."""


@dataclass(frozen=True, slots=True)
class Node:
    op: str
    inputs: tuple[str, ...]
    """Names of nodes."""


@dataclass(frozen=True, slots=True)
class GraphOps:
    """A graph without its attributes. Which function a node calls is one, so a call stands for any of them."""

    nodes: Mapping[str, Node]
    functions: Collection[str]
    """Names, which are ops in their own right."""
    function_ops: Collection[str]
    """Ops of the nodes in all functions."""

    def are_bounded(self, feeds: Collection[str], fetches: Collection[str]) -> bool:
        """Whether each run from `feeds` to `fetches`, tensors of the graph, ends by itself."""
        ops = set(self._between(feeds, fetches))
        if not ops.isdisjoint(self.functions) or any(_CALLS.fullmatch(op) for op in ops):
            ops.update(self.function_ops)
        return not any(_ENDLESS.fullmatch(op) for op in ops)

    def _between(self, feeds: Collection[str], fetches: Collection[str]) -> Iterator[str]:
        seen = {_node_name(feed) for feed in feeds}
        waiting = [_node_name(fetch) for fetch in fetches]
        while waiting:
            name = waiting.pop()
            if name in seen or name not in self.nodes:
                continue
            seen.add(name)
            yield self.nodes[name].op
            waiting += self.nodes[name].inputs


def read(graph: memoryview) -> GraphOps | None:
    """Of a serialized GraphDef. None when it has more than MAX_NODES."""
    nodes: dict[str, Node] = {}
    functions: set[str] = set()
    function_ops: set[str] = set()
    num_nodes = 0
    for kind, payload in _parts(graph):
        num_nodes += kind is not _FUNCTION_NAME
        if num_nodes > MAX_NODES:
            return None
        if kind is _FUNCTION_NAME:
            functions.add(_text(payload))
        elif kind is _FUNCTION_NODE:
            function_ops.add(_node(payload)[1].op)
        else:
            name, node = _node(payload)
            nodes[name] = node
    return GraphOps(nodes, functions, function_ops)


# Field numbers of graph.proto, function.proto, op_def.proto and node_def.proto.
_NODE, _LIBRARY = 1, 2
_FUNCTION, _SIGNATURE, _FUNCTION_NODE, _FUNCTION_NAME = 1, 1, 3, -1
_NAME, _OP, _INPUT, _DEVICE = 1, 2, 3, 4


def _parts(graph: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Nodes, nodes of functions and names of functions."""
    for number, _, payload in fields(graph):
        if number == _NODE:
            yield _NODE, payload
        elif number == _LIBRARY:
            for function in (function for kind, _, function in fields(payload) if kind == _FUNCTION):
                for kind, _, part in fields(function):
                    if kind == _FUNCTION_NODE:
                        yield _FUNCTION_NODE, part
                    elif kind == _SIGNATURE:
                        yield _FUNCTION_NAME, next(name for field, _, name in fields(part) if field == _NAME)


def _node(serialized: memoryview) -> tuple[str, Node]:
    name = op = ""
    inputs: list[str] = []
    for number, _, payload in fields(serialized):
        if number == _NAME:
            name = _text(payload)
        elif number == _OP:
            op = _text(payload)
        elif number == _INPUT:
            inputs.append(_node_name(_text(payload)))
        elif number > _DEVICE:  # attributes, of which there are many, come last
            break
    return name, Node(op, tuple(inputs))


def _text(payload: memoryview) -> str:
    return bytes(payload).decode()


def _node_name(tensor: str) -> str:
    """`^name` is an edge of control, `name:1` an output."""
    return tensor.removeprefix("^").partition(":")[0]
