"""Write the type stubs of pyserving.protos: one class per message, with typed fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from keyword import iskeyword

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from pyserving import protos

HEADER = """\
# Made by protos/build.py; do not edit.
import builtins
from collections.abc import Iterable, Mapping
from typing import Any as _Object

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal import well_known_types
from google.protobuf.internal.containers import (
    MessageMap,
    RepeatedCompositeFieldContainer,
    RepeatedScalarFieldContainer,
    ScalarMap,
)
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message

PACKAGES: tuple[str, ...]
pool: DescriptorPool

def message_class(full_name: str) -> type[Message]: ...
"""

_SCALARS = {
    FieldDescriptor.CPPTYPE_INT32: "builtins.int",
    FieldDescriptor.CPPTYPE_INT64: "builtins.int",
    FieldDescriptor.CPPTYPE_UINT32: "builtins.int",
    FieldDescriptor.CPPTYPE_UINT64: "builtins.int",
    FieldDescriptor.CPPTYPE_DOUBLE: "builtins.float",
    FieldDescriptor.CPPTYPE_FLOAT: "builtins.float",
    FieldDescriptor.CPPTYPE_BOOL: "builtins.bool",
    FieldDescriptor.CPPTYPE_ENUM: "builtins.int",
}


def stubs(file_names: Iterable[str]) -> str:
    """The text of protos.pyi for all messages and enums of these files, sorted by name."""
    files = [protos.pool.FindFileByName(name) for name in file_names]
    enums = [enum for file in files for enum in file.enum_types_by_name.values()]
    messages = [message for file in files for message in file.message_types_by_name.values()]
    lines = [HEADER]
    lines += sorted(f"{_path(enum)}: EnumTypeWrapper" for enum in enums)
    for message in sorted(messages, key=_path):
        lines += ["", *_class(message)]
    return "\n".join(lines) + "\n"


def _class(message: Descriptor) -> Iterator[str]:
    bases = "well_known_types.Any, Message" if message.full_name == "google.protobuf.Any" else "Message"
    yield f"class {_path(message).rpartition('.')[2]}({bases}):"
    for nested in message.nested_types:
        if not nested.GetOptions().map_entry:
            yield from _indented(_class(nested))
    for enum in message.enum_types:
        yield f"    {enum.name}: EnumTypeWrapper"
        for value in enum.values:
            yield f"    {value.name}: builtins.int"
    fields = [field for field in message.fields if not iskeyword(field.name)]
    for field in fields:
        yield from _indented(_field(field))
    parameters = ["self", *(["*"] if fields else []), *(f"{field.name}: {_given(field)} = ..." for field in fields)]
    yield f"    def __init__({', '.join(parameters)}) -> None: ..."


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"    {line}" for line in lines)


def _field(field: FieldDescriptor) -> Iterator[str]:
    """A scalar can be assigned; what holds others cannot."""
    if not field.is_repeated and field.message_type is None:
        yield f"{field.name}: {_element(field)}"
    else:
        yield "@builtins.property"
        yield f"def {field.name}(self) -> {_held(field)}: ..."


def _held(field: FieldDescriptor) -> str:
    if not field.is_repeated:
        return _element(field)
    if entry := _map_entry(field):
        key, value = entry
        kind = "ScalarMap" if value.message_type is None else "MessageMap"
        return f"{kind}[{_element(key)}, {_element(value)}]"
    kind = "RepeatedScalarFieldContainer" if field.message_type is None else "RepeatedCompositeFieldContainer"
    return f"{kind}[{_element(field)}]"


def _given(field: FieldDescriptor) -> str:
    """What the constructor takes for a field."""
    if entry := _map_entry(field):
        key, value = entry
        return f"Mapping[{_element(key)}, {_element(value)}] | None"
    element = _element(field)
    if field.message_type is not None:
        element += " | Mapping[builtins.str, _Object]"
    elif field.enum_type is not None:
        element += " | builtins.str"
    return f"Iterable[{element}] | None" if field.is_repeated else f"{element} | None"


def _element(field: FieldDescriptor) -> str:
    """The type of one value."""
    if field.message_type is not None:
        return _path(field.message_type)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return "builtins.bytes"
    return _SCALARS.get(field.cpp_type, "builtins.str")


def _map_entry(field: FieldDescriptor) -> tuple[FieldDescriptor, FieldDescriptor] | None:
    """The key and the value of a map; None for any other field."""
    if field.message_type is None or not field.message_type.GetOptions().map_entry:
        return None
    key, value = field.message_type.fields
    return key, value


def _path(of: Descriptor | EnumDescriptor) -> str:
    """How the stubs name it: as a module attribute, or privately where another package's has the short name."""
    if of.containing_type is not None:
        return f"{_path(of.containing_type)}.{of.name}"
    if getattr(protos, of.name).DESCRIPTOR.full_name == of.full_name:
        return of.name
    return "_" + of.full_name.replace(".", "_")
