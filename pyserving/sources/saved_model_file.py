"""What `saved_model.pb` and `saved_model.pbtxt` say of the files that belong to them, read without TensorFlow."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from pyserving.sources.storage import LOCAL, Storage
from pyserving.sources.wire import Field, Malformed, fields

# Field numbers of saved_model.proto, meta_graph.proto and graph.proto.
_META_GRAPHS = 2
_GRAPH_DEF, _ASSET_FILE_DEF = 2, 6
_ASSET_FILENAME = 2
_NODE = 1
_OP = 2

_VARIABLE_OPS = ("VarHandleOp", "VariableV2", "Variable")
_TEXT_VARIABLE = re.compile(rb"\bop:\s*[\"'](?:%s)[\"']" % "|".join(_VARIABLE_OPS).encode())
_TEXT_TOKENS = re.compile(
    rb'"(?:[^"\\\n]|\\.)*"'
    rb"|'(?:[^'\\\n]|\\.)*'"
    rb"|#[^\n]*"
    rb"|(?P<open>[{<])|(?P<close>[}>])|(?P<stray>[\"'])"
)


@dataclass(frozen=True, slots=True)
class SavedModelFile:
    """What one graph file tells about the rest of its version folder."""

    asset_files: tuple[str, ...]
    """Names of the files that have to lie in `assets/`."""
    has_variables: bool
    """Whether a graph holds variables, whose values have to be restored. Only looked for when asked."""


def read_pb(path: str, look_for_variables: bool, storage: Storage = LOCAL) -> SavedModelFile:
    """Raises Malformed when the file is not whole, OSError when it cannot be read.

    A file cut between two fields of the outermost message is whole to the format; one without any MetaGraph is not.
    """
    with storage.open(path) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        meta_graphs = 0
        asset_files: list[str] = []
        has_variables = False
        for saved_model_field in fields(file, end):
            if saved_model_field.number != _META_GRAPHS:
                continue
            meta_graphs += 1
            for field in _inside(file, saved_model_field):
                if field.number == _ASSET_FILE_DEF:
                    asset_files += _strings(file, field, _ASSET_FILENAME)
                elif field.number == _GRAPH_DEF:
                    has_variables |= _walk_graph(file, field, look_for_variables)
    if not meta_graphs:
        raise Malformed("it holds no MetaGraph")
    return SavedModelFile(tuple(asset_files), has_variables)


def read_pbtxt(path: str, storage: Storage = LOCAL) -> SavedModelFile:
    """Raises Malformed when brackets or quotes do not close, OSError when the file cannot be read."""
    with storage.open(path) as file:
        text = file.read()
    depth = 0
    for token in _TEXT_TOKENS.finditer(text):
        if token.lastgroup == "stray":
            raise Malformed("a quoted text does not end")
        depth += {"open": 1, "close": -1}.get(token.lastgroup or "", 0)
        if depth < 0:
            break
    if depth:
        raise Malformed("its brackets do not close")
    if b"meta_graphs" not in text:
        raise Malformed("it holds no MetaGraph")
    return SavedModelFile((), _TEXT_VARIABLE.search(text) is not None)


def _inside(file: BinaryIO, field: Field) -> Iterator[Field]:
    file.seek(field.start)
    return fields(file, field.end)


def _strings(file: BinaryIO, message: Field, number: int) -> Iterator[str]:
    for field in _inside(file, message):
        if field.number == number:
            file.seek(field.start)
            yield file.read(field.end - field.start).decode("utf-8", "surrogateescape")


def _walk_graph(file: BinaryIO, graph: Field, look_for_variables: bool) -> bool:
    """Walk over a GraphDef's nodes, and into them until the first variable when one is looked for."""
    has_variables = False
    for field in _inside(file, graph):
        if look_for_variables and not has_variables and field.number == _NODE:
            has_variables = any(op in _VARIABLE_OPS for op in _strings(file, field, _OP))
    return has_variables
