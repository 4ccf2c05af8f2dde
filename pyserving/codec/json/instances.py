"""The values of a predict request, `instances` or `inputs`, as one array for each input.

ValueError where a value has more dimensions than NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from math import prod

import numpy as np

from pyserving.codec.json.base64_object import is_named_values
from pyserving.codec.json.document import Object, Value
from pyserving.codec.json.dump import dump
from pyserving.codec.json.tensor import filled, first_misfit, shape_of, to_array
from pyserving.codec.json.text import as_bytes, as_message
from pyserving.errors import InvalidArgument, ServingError
from pyserving.signature import TensorInfo

Inputs = Mapping[str, TensorInfo]


def read_columns(value: Value, infos: Inputs) -> dict[str, np.ndarray]:
    """`inputs`: an object with a value for each input (others in it are ignored), or the value of the only one."""
    if not is_named_values(value):
        if len(infos) > 1:
            raise InvalidArgument(
                "inputs is a plain value/list, but expecting an object as multiple "
                "input tensors required as per tensorinfo_map"
            )
        return {alias: to_array(value, info.dtype) for alias, info in infos.items()}
    return {alias: to_array(_named(value, alias), info.dtype) for alias, info in infos.items()}


def _named(members: Object, alias: str) -> Value:
    for value in members.first(as_bytes(alias)):
        return value
    raise InvalidArgument(f"Missing named input: {alias} in 'inputs' object.")


def read_rows(instances: list[Value], infos: Inputs) -> dict[str, np.ndarray]:
    """`instances`, of which there is one at least: values of the only input, or objects with a value for each input."""
    first = instances[0]
    if len(infos) > 1 and not isinstance(first, Object):
        raise InvalidArgument(
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map"
        )
    return _read_objects(instances, infos) if is_named_values(first) else _read_plain(instances, infos)


def _read_plain(instances: list[Value], infos: Inputs) -> dict[str, np.ndarray]:
    """A base64 object may stand first even where several inputs are due; the run then misses the others."""
    alias, info = next(iter(infos.items()))
    try:
        return {alias: _stacked(instances, info)}
    except ServingError:
        _refuse_plain(instances, first_misfit(instances, info.dtype), info)
        raise


def _stacked(rows: list[Value], info: TensorInfo) -> np.ndarray:
    return filled(rows, (len(rows), *shape_of(rows[0])), info.dtype)


def _refuse_plain(instances: list[Value], index: int, info: TensorInfo) -> None:
    value = instances[index]
    if is_named_values(value):
        raise InvalidArgument(f"Expecting value/list but got object at item {index} of input list")
    try:
        _check_like(instances[0], value, info)
    except ServingError as error:
        raise InvalidArgument(
            f"Failed to process element: {index} of 'instances' list. Error: {error.status}"
        ) from None


def _check_like(first: Value, value: Value, info: TensorInfo) -> None:
    """Refuse a value that is no array of its own, or one of another shape than the first."""
    array = to_array(value, info.dtype)
    shape = shape_of(first)
    if array.size != prod(shape):
        raise InvalidArgument(f"Expecting tensor size: {prod(shape)} but got: {array.size}")
    if array.shape != shape:
        raise InvalidArgument(f"Expecting shape {_text(shape)} but got: {_text(array.shape)}")


def _text(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _read_objects(instances: list[Value], infos: Inputs) -> dict[str, np.ndarray]:
    columns = _columns(instances, {as_bytes(alias) for alias in infos})
    rows = {alias: columns[as_bytes(alias)] for alias in infos}
    num_whole = min(map(len, rows.values()))
    if num_whole == len(instances):
        with suppress(ServingError):
            return {alias: _stacked(rows[alias], info) for alias, info in infos.items()}
    misfits = [first_misfit(rows[alias], info.dtype) for alias, info in infos.items() if num_whole]
    raise _object_refusal(instances, min([num_whole, *misfits]), infos)


def _columns(instances: list[Value], names: set[bytes]) -> dict[bytes, list[Value]]:
    """The instances' values under each name, up to the first instance that has other names or is no such object."""
    columns: dict[bytes, list[Value]] = {name: [] for name in names}
    for instance in instances:
        members = dict(instance.members) if is_named_values(instance) else {}
        if members.keys() != names:
            break
        for name, value in members.items():
            columns[name].append(value)
    return columns


def _object_refusal(instances: list[Value], index: int, infos: Inputs) -> InvalidArgument:
    """Goes through the members of the instance in their order, then looks at what is missing."""
    first, instance = instances[0], instances[index]
    if not is_named_values(instance) or not isinstance(first, Object):
        return InvalidArgument(f"Expecting object but got list at item {index} of input list")
    for name, value in instance.members:
        alias = as_message(name)
        try:
            if alias not in infos:
                raise InvalidArgument(f"JSON object: does not have named input: {alias}")
            _check_like(value if index == 0 else first.first(name)[0], value, infos[alias])
        except ServingError as error:
            return InvalidArgument(
                f"Failed to process element: {index} key: {alias} of 'instances' list. Error: {error.status}"
            )
    return InvalidArgument(
        f"Failed to process element: {index} of 'instances' list. JSON object: {dump(instance)} "
        f"keys must be equal to: {','.join(sorted(infos))}"
    )
