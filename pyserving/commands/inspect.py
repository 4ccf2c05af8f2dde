"""Show what a model's folder holds, without TensorFlow: signatures, ops, sizes, and a request to begin with.

MODEL_DIR is a version's folder, or a base path, whose newest version is meant.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from pyserving import protos
from pyserving.codec import signature_def
from pyserving.commands.example_features import example_features
from pyserving.commands.sample import MOST_SHOWN, sample_tensors
from pyserving.commands.table import add_json_argument, as_json, table
from pyserving.commands.version_folder import version_folder
from pyserving.errors import DataLoss, Unimplemented
from pyserving.signature import DEFAULT_SIGNATURE_NAME, PREDICT_METHOD_NAME, SignatureDef, TensorInfo

EXAMPLES = ["pyserving inspect /models/my_model", "pyserving inspect /models/my_model/3 --ops"]

_INIT_OP_SIGNATURE = "__saved_model_init_op"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_dir", type=Path, metavar="MODEL_DIR", help="the model's folder")
    parser.add_argument("--ops", action="store_true", help="list every op of the graph, and how often it occurs")
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    version = version_folder(arguments.model_dir)
    saved_model = read(version)
    if arguments.json:
        meta_graphs = [_values(meta_graph) for meta_graph in saved_model.meta_graphs]
        print(as_json({"path": str(version), "bytes": sizes(version), "meta_graphs": meta_graphs}))
        return 0
    print(f"{version}\n\n{_sizes_table(sizes(version))}")
    for meta_graph in saved_model.meta_graphs:
        print(f"\n{_text(meta_graph, arguments.ops)}")
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


def sizes(version: Path) -> Mapping[str, int]:
    """The bytes of each part of the folder."""
    parts: Counter[str] = Counter()
    for path in version.rglob("*"):
        if path.is_file():
            parts[path.relative_to(version).parts[0]] += path.stat().st_size
    return dict(sorted(parts.items()))


def _sizes_table(parts: Mapping[str, int]) -> str:
    rows = [(name, f"{size:,}") for name, size in parts.items()]
    return table(("part", "bytes"), [*rows, ("total", f"{sum(parts.values()):,}")])


def _text(meta_graph: Any, with_ops: bool) -> str:
    counts = op_counts(meta_graph.graph_def)
    tags, written_by = ", ".join(sorted(meta_graph.meta_info_def.tags)), meta_graph.meta_info_def.tensorflow_version
    parts = [
        f"MetaGraph {{{tags}}}, written by TensorFlow {written_by or '(unknown)'}\n"
        f"{sum(counts.values())} nodes, {len(counts)} ops"
    ]
    if with_ops:
        parts[0] += "\n" + table(("op", "nodes"), [(op, str(count)) for op, count in counts.most_common()])
    parts += [description(name, signature) for name, signature in signatures(meta_graph)]
    if features := example_features(meta_graph.graph_def):
        rows = [(name, tensor.data_type.type_name, str([*tensor.shape])) for name, tensor in features.items()]
        parts.append("features of tf.Examples\n" + table(("name", "type", "shape"), rows))
    return "\n\n".join(parts)


def _values(meta_graph: Any) -> dict[str, Any]:
    """What JSON shows of a MetaGraph."""
    return {
        "tags": sorted(meta_graph.meta_info_def.tags),
        "tensorflow_version": meta_graph.meta_info_def.tensorflow_version,
        "ops": dict(op_counts(meta_graph.graph_def).most_common()),
        "signatures": {
            name: {
                "method_name": signature.method_name,
                "inputs": {alias: _tensor_values(info) for alias, info in sorted(signature.inputs.items())},
                "outputs": {alias: _tensor_values(info) for alias, info in sorted(signature.outputs.items())},
            }
            for name, signature in signatures(meta_graph)
        },
        "features": {
            name: {"type": tensor.data_type.type_name, "shape": tensor.shape}
            for name, tensor in example_features(meta_graph.graph_def).items()
        },
    }


def _tensor_values(info: TensorInfo) -> dict[str, Any]:
    return {"tensor": info.name, "type": info.dtype.type_name, "shape": info.shape}


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
        inputs = f"'{json.dumps(made)}'" if (made := sample(signature)) is not None else "@INPUTS.json"
        lines.append(f"pyserving predict MODEL {inputs}{choice}")
    else:
        lines.append(f"pyserving client MODEL_DIR --language curl --signature {name}")
    return "\n".join(lines)


def sample(signature: SignatureDef) -> dict[str, Any] | None:
    """Inputs as `pyserving predict` takes them; None when there are more elements than a person wants to see."""
    try:
        tensors = sample_tensors(signature)
    except Unimplemented:
        return None
    if sum(tensor.size for tensor in tensors.values()) > MOST_SHOWN:
        return None
    return {alias: tensor.values() for alias, tensor in tensors.items()}


def _shape(info: TensorInfo) -> str:
    if info.shape is None:
        return "any"
    return f"[{', '.join('?' if size < 0 else str(size) for size in info.shape)}]"
