"""Writes version folders by hand: graph files in wire format and checkpoint indexes, small enough to read."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

INDEX = "variables/variables.index"
DATA = "variables/variables.data-00000-of-00001"
MAGIC = 0xDB4775248B80FB57


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def length_field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def number_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def saved_model(ops: Iterable[str] = ("Placeholder", "Identity"), asset_files: Iterable[str] = ()) -> bytes:
    """A SavedModel of one MetaGraph with these nodes and assets."""
    nodes = (length_field(1, length_field(1, b"n%d" % i) + length_field(2, op.encode())) for i, op in enumerate(ops))
    graph_def = b"".join(nodes) + length_field(2, b"") + length_field(4, number_field(1, 1882))
    assets = (length_field(6, length_field(1, b"\x0a\x00") + length_field(2, name.encode())) for name in asset_files)
    meta_graph = length_field(1, b"") + length_field(2, graph_def) + b"".join(assets)
    return number_field(1, 1) + length_field(2, meta_graph)


def block(entries: Sequence[tuple[bytes, bytes]], compression: int = 0) -> bytes:
    """A table's block and its trailer; keys share prefixes as LevelDB writes them, the checksum is left zero."""
    out, last = b"", b""
    for key, value in entries:
        shared = next((i for i, (a, b) in enumerate(zip(last, key, strict=False)) if a != b), min(len(last), len(key)))
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return out + struct.pack("<II", 0, 1) + bytes([compression]) + bytes(4)


def table(*blocks: bytes) -> bytes:
    """A whole table of these data blocks."""
    out, handles = b"", []
    for number, data in enumerate(blocks):
        handles.append((b"%03d" % number, varint(len(out)) + varint(len(data) - 5)))
        out += data
    meta = block([])
    meta_handle = varint(len(out)) + varint(len(meta) - 5)
    out += meta
    index = block(handles)
    index_handle = varint(len(out)) + varint(len(index) - 5)
    out += index
    return out + (meta_handle + index_handle).ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def header(num_shards: int = 1) -> tuple[bytes, bytes]:
    return b"", number_field(1, num_shards) + length_field(3, number_field(1, 1))


def entry(key: str, size: int, offset: int = 0, shard: int = 0) -> tuple[bytes, bytes]:
    """A BundleEntryProto; zeros are left out, as protobuf does."""
    value = number_field(1, 1) + length_field(2, b"")
    for number, field in ((3, shard), (4, offset), (5, size)):
        value += number_field(number, field) if field else b""
    return key.encode(), value + b"\x35" + bytes(4)


def index(size: int) -> bytes:
    """Of one shard that holds one tensor."""
    return table(block([header(), entry("w", size)]))


def with_variables(data: bytes = b"weights") -> dict[str, bytes]:
    """Everything in the folder of a version that has variables."""
    return {"saved_model.pb": saved_model(["VarHandleOp"]), INDEX: index(len(data)), DATA: data}


class Part(NamedTuple):
    """A piece of a flatbuffer, wherever it comes to lie: what refers to it leads to its `entry`."""

    data: bytes
    entry: int = 0


def vector(*elements: Part) -> Part:
    """Of tables. What an offset leads to lies behind it."""
    offsets, behind = b"", b""
    for number, element in enumerate(elements):
        offsets += struct.pack("<I", 4 * (len(elements) - number) + len(behind) + element.entry)
        behind += element.data
    return Part(struct.pack("<I", len(elements)) + offsets + behind)


def plain(data: bytes, element_size: int = 1) -> Part:
    """A string, or a vector of numbers."""
    return Part(struct.pack("<I", len(data) // element_size) + data)


def flat_table(fields: Mapping[int, Part | int]) -> Part:
    """Its layout, the table, then what it refers to; each field takes eight bytes."""
    numbers = range(max(fields, default=-1) + 1)
    places = {number: 4 + 8 * place for place, number in enumerate(sorted(fields))}
    size = 4 + 8 * len(fields)
    layout = struct.pack("<HH", 4 + 2 * len(numbers), size)
    layout += b"".join(struct.pack("<H", places.get(number, 0)) for number in numbers)
    inline, behind = struct.pack("<i", len(layout)), b""
    for number in sorted(fields):
        value = fields[number]
        if isinstance(value, Part):
            inline += struct.pack("<II", size - places[number] + len(behind) + value.entry, 0)
            behind += value.data
        else:
            inline += struct.pack("<Q", value)
    return Part(layout + inline + behind, entry=len(layout))


def tflite(graphs: int = 1, behind: bytes = b"") -> bytes:
    """A TensorFlow Lite model of one tensor, one operator and one buffer; `behind` are weights after its end."""
    tensor = flat_table({0: plain(bytes(8), 4), 3: plain(b"x:0")})
    operator = flat_table({1: plain(bytes(4), 4), 2: plain(bytes(4), 4)})
    graph = flat_table({0: vector(tensor), 1: plain(bytes(4), 4), 3: vector(operator), 4: plain(b"main")})
    signature = flat_table({0: vector(flat_table({0: plain(b"x")})), 2: plain(b"serving_default")})

    def model(offset: int) -> bytes:
        buffers = [flat_table({0: plain(b"numbers")}), flat_table({1: offset, 2: len(behind)})]
        root = flat_table(
            {
                0: 3,
                1: vector(flat_table({1: plain(b"Custom")})),
                2: vector(*[graph] * graphs),
                4: vector(*buffers[: 2 if behind else 1]),
                7: vector(signature),
            }
        )
        return struct.pack("<I", 8 + root.entry) + b"TFL3" + root.data

    return model(len(model(0))) + behind


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
