"""Show what a model's folder holds, without TensorFlow: signatures, ops, sizes, and a request to begin with.

MODEL_DIR is a version's folder, or a base path, whose newest version is meant.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from pyserving import protos
from pyserving.codec import signature_def
from pyserving.commands.table import table
from pyserving.commands.version_folder import version_folder
from pyserving.errors import DataLoss, Unimplemented
from pyserving.signature import DEFAULT_SIGNATURE_NAME, PREDICT_METHOD_NAME, DataType, SignatureDef, TensorInfo

_INIT_OP_SIGNATURE = "__saved_model_init_op"
_MOST_SHOWN = 64
"""Elements of a sample request."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_dir", type=Path, metavar="MODEL_DIR")
    parser.add_argument("--ops", action="store_true", help="list every op of the graph, and how often it occurs")


def run(arguments: argparse.Namespace) -> int:
    version = version_folder(arguments.model_dir)
    saved_model = read(version)
    print(f"{version}\n\n{sizes(version)}")
    for meta_graph in saved_model.meta_graphs:
        print(f"\nMetaGraph {{{', '.join(sorted(meta_graph.meta_info_def.tags))}}}", end="")
        print(f", written by TensorFlow {meta_graph.meta_info_def.tensorflow_version or '(unknown)'}")
        counts = op_counts(meta_graph.graph_def)
        print(f"{sum(counts.values())} nodes, {len(counts)} ops")
        if arguments.ops:
            print(table(("op", "nodes"), [(op, str(count)) for op, count in counts.most_common()]))
        for name, signature in signatures(meta_graph):
            print(f"\n{description(name, signature)}")
    return 0


def read(version: Path) -> Any:
    """The SavedModel proto. DataLoss when the file is broken; Unimplemented where there is no graph to read."""
    pb, pbtxt = version / "saved_model.pb", version / "saved_model.pbtxt"
    try:
        if pb.exists():
            return protos.SavedModel.FromString(pb.read_bytes())
        if pbtxt.exists():
            text = pbtxt.read_text()
            return text_format.Parse(text, protos.SavedModel(), descriptor_pool=protos.pool, allow_unknown_field=True)
    except (DecodeError, text_format.ParseError) as error:
        raise DataLoss(f"{version} holds a SavedModel that cannot be read: {error}") from None
    raise Unimplemented(f"{version} holds no SavedModel; other models cannot be inspected")


def sizes(version: Path) -> str:
    """A line for each part of the folder."""
    parts: Counter[str] = Counter()
    for path in version.rglob("*"):
        if path.is_file():
            parts[path.relative_to(version).parts[0]] += path.stat().st_size
    rows = [(name, f"{size:,}") for name, size in sorted(parts.items())]
    return table(("part", "bytes"), [*rows, ("total", f"{sum(parts.values()):,}")])


def op_counts(graph: Any) -> Counter[str]:
    """Of the graph and of the functions in its library."""
    counts = Counter(node.op for node in graph.node)
    for function in graph.library.function:
        counts.update(node.op for node in function.node_def)
    return counts


def signatures(meta_graph: Any) -> Iterator[tuple[str, SignatureDef]]:
    """In the order of their names, those left out that are there for loading."""
    for name, proto in sorted(meta_graph.signature_def.items()):
        if name != _INIT_OP_SIGNATURE:
            yield name, signature_def.decode(proto)


def description(name: str, signature: SignatureDef) -> str:
    """A table of tensors, and the command that asks the signature."""
    rows = [
        (kind, alias, info.dtype.type_name, _shape(info), info.name)
        for kind, tensors in (("input", signature.inputs), ("output", signature.outputs))
        for alias, info in sorted(tensors.items())
    ]
    lines = [f"{name}  ({signature.method_name})", table(("", "alias", "type", "shape", "tensor"), rows)]
    if signature.method_name == PREDICT_METHOD_NAME:
        choice = "" if name == DEFAULT_SIGNATURE_NAME else f" --signature {name}"
        inputs = f"'{json.dumps(made)}'" if (made := sample(signature.inputs)) is not None else "@INPUTS.json"
        lines.append(f"pyserving predict MODEL {inputs}{choice}")
    return "\n".join(lines)


def sample(inputs: Mapping[str, TensorInfo]) -> dict[str, Any] | None:
    """Inputs of the right types and shapes, open dimensions being 1, as `pyserving predict` takes them.

    None when they have more elements than a person wants to see.
    """
    shapes = {alias: [1 if size < 0 else size for size in info.shape or ()] for alias, info in sorted(inputs.items())}
    if sum(prod(shape) for shape in shapes.values()) > _MOST_SHOWN:
        return None
    return {alias: np.full(shape, _sample_element(inputs[alias].dtype)).tolist() for alias, shape in shapes.items()}


def _sample_element(data_type: DataType) -> str | bool | int | float:
    if data_type is DataType.DT_STRING:
        return ""
    if data_type is DataType.DT_BOOL:
        return False
    return 0 if data_type.numpy is not None and data_type.numpy.kind in "iu" else 0.0


def _shape(info: TensorInfo) -> str:
    if info.shape is None:
        return "any"
    return f"[{', '.join('?' if size < 0 else str(size) for size in info.shape)}]"
