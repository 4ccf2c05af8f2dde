"""Read a SavedModel folder as TensorFlow's C++ loader does, with its sentences: cc/saved_model/loader.cc, reader.cc."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from pyserving import protos
from pyserving.codec import signature_def
from pyserving.codec.signature_def import REFERENCE
from pyserving.codec.signature_def import data_type as data_type  # so that users find it here
from pyserving.errors import DataLoss, FailedPrecondition, NotFound, Unimplemented
from pyserving.signature import SignatureDef

INIT_OP_SIGNATURE = "__saved_model_init_op"
INIT_OP_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")
ASSETS_COLLECTION = "saved_model_assets"


def read_meta_graph(path: str, tags: Collection[str]) -> Any:
    """The MetaGraphDef whose tags are exactly `tags`.

    Raises NotFound, Unimplemented or DataLoss when there is none to be had; what the file system says passes through.
    """
    for meta_graph in _read_saved_model(path).meta_graphs:
        if set(meta_graph.meta_info_def.tags) == set(tags):
            return meta_graph
    raise NotFound(
        f"Could not find meta graph def matching supplied tags: {{ {' '.join(sorted(tags))} }}. To inspect available "
        "tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`"
    )


def check_is_there(path: str) -> None:
    """Raises NotFound or Unimplemented when a folder has no file that could be a SavedModel's graph."""
    if _has(path, "saved_model.pb") or _has(path, "saved_model.pbtxt"):
        return
    if _has(path, "export.meta"):
        raise Unimplemented("Session Bundle is deprecated and removed.")
    raise NotFound(
        "Specified file path does not appear to contain a SavedModel bundle (should have a file called "
        f"`saved_model.pb`)\nSpecified file path: {path}"
    )


def _has(path: str, file: str) -> bool:
    return bool(tf.io.gfile.exists(tf.io.gfile.join(path, file)))


def _read_saved_model(path: str) -> Any:
    check_is_there(path)
    saved_model = saved_model_pb2.SavedModel()
    binary = tf.io.gfile.join(path, "saved_model.pb")
    text = tf.io.gfile.join(path, "saved_model.pbtxt")
    if tf.io.gfile.exists(binary):
        try:
            saved_model.ParseFromString(tf.io.gfile.GFile(binary, "rb").read())
        except DecodeError as error:
            raise DataLoss(f"Can't parse {binary} as binary proto") from error
    else:
        try:
            text_format.Parse(tf.io.gfile.GFile(text, "rb").read(), saved_model)
        except (text_format.ParseError, UnicodeDecodeError) as error:
            raise DataLoss(f"Can't parse {text} as text proto") from error
    return saved_model


def split(serialized: memoryview) -> tuple[Any, memoryview]:
    """The signatures of a serialized MetaGraphDef, as a MetaGraphDef with nothing else, and its GraphDef's bytes.

    Walks the bytes, which have to be well-formed: parsing a graph would hold up every other thread.
    """
    signatures, graph = [], serialized[:0]
    for number, field, payload in fields(serialized):
        if number == meta_graph_pb2.MetaGraphDef.SIGNATURE_DEF_FIELD_NUMBER:
            signatures.append(field)
        elif number == meta_graph_pb2.MetaGraphDef.GRAPH_DEF_FIELD_NUMBER:
            graph = payload
    return meta_graph_pb2.MetaGraphDef.FromString(b"".join(signatures)), graph


# Field numbers that lead from a GraphDef into it: graph.proto, function.proto, op_def.proto, node_def.proto.
_NODE_OPS = (1, 2)
_FUNCTION_NODE_OPS = (2, 1, 3, 2)
_FUNCTION_NAMES = (2, 1, 1, 1)


def op_types(graph: memoryview) -> set[str]:
    """Types of all nodes of a serialized GraphDef, those in functions too, but for calls of its own functions."""
    nodes, function_nodes, functions = (
        {bytes(name).decode() for name in _payloads(graph, path)}
        for path in (_NODE_OPS, _FUNCTION_NODE_OPS, _FUNCTION_NAMES)
    )
    return (nodes | function_nodes) - functions


def _payloads(message: memoryview, numbers: tuple[int, ...]) -> Iterator[memoryview]:
    """Of the fields at the end of a path of field numbers."""
    if not numbers:
        yield message
        return
    for number, _, payload in fields(message):
        if number == numbers[0]:
            yield from _payloads(payload, numbers[1:])


def fields(message: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Number, whole and payload of each field that has a length; the others are passed over."""
    position = 0
    while position < len(message):
        start = position
        tag, position = _varint(message, position)
        wire_type = tag & 7
        if wire_type == _LENGTH:
            length, position = _varint(message, position)
            yield tag >> 3, message[start : position + length], message[position : position + length]
            position += length
        elif wire_type == _VARINT:
            _, position = _varint(message, position)
        else:
            position += _FIXED_BYTES[wire_type]


_VARINT, _LENGTH = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Its value, and the position behind it."""
    value = shift = 0
    while (byte := message[position]) >= 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
        position += 1
    return value | byte << shift, position + 1


def signature_defs(meta_graph: Any) -> dict[str, SignatureDef]:
    """Every signature by its name, `__saved_model_init_op` among them."""
    return {name: signature_def.decode(proto) for name, proto in meta_graph.signature_def.items()}


def is_reference(value: int) -> bool:
    """Whether an integer of types.proto stands for the reference of a variable."""
    return value > REFERENCE


def signature_def_map(meta_graph: Any) -> bytes:
    """A serialized tensorflow.serving.SignatureDefMap of all signatures, nothing stripped."""
    signatures = protos.SignatureDefMap()
    for name, proto in meta_graph.signature_def.items():
        signatures.signature_def[name].ParseFromString(proto.SerializeToString())
    return signatures.SerializeToString(deterministic=True)


def asset_feeds(path: str, meta_graph: Any) -> Mapping[str, np.ndarray]:
    """What the tensors that stand for asset files are fed while restoring and initializing: scalar strings."""
    assets = list(meta_graph.asset_file_def)
    if not assets and ASSETS_COLLECTION in meta_graph.collection_def:
        for packed in meta_graph.collection_def[ASSETS_COLLECTION].any_list.value:
            assets.append(meta_graph_pb2.AssetFileDef.FromString(packed.value))
    return {asset.tensor_info.name: scalar(tf.io.gfile.join(path, "assets", asset.filename)) for asset in assets}


def scalar(text: str) -> np.ndarray:
    """A DT_STRING array of rank 0."""
    return np.array(text.encode(), dtype=object)


def init_op(path: str, meta_graph: Any) -> str | None:
    """Name of the op to run once after the variables are restored. FailedPrecondition when a collection has several."""
    if INIT_OP_SIGNATURE in meta_graph.signature_def:
        name: str = meta_graph.signature_def[INIT_OP_SIGNATURE].outputs[INIT_OP_SIGNATURE].name
        return name
    for collection in INIT_OP_COLLECTIONS:
        if collection in meta_graph.collection_def:
            ops = meta_graph.collection_def[collection].node_list.value
            if len(ops) != 1:
                raise FailedPrecondition(f"Expected exactly one main op in : {path}")
            return str(ops[0])
    return None
