"""The values of a predict request, `instances` or `inputs`, as one array for each input.

ValueError where a value has more dimensions than NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from pyserving.codec.json.base64_object import is_named_values
from pyserving.codec.json.document import Object, Value
from pyserving.codec.json.dump import dump
from pyserving.codec.json.tensor import filled, shape_of, to_array
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
        _refuse_plain(instances, info)
        raise


def _stacked(rows: list[Value], info: TensorInfo) -> np.ndarray:
    return filled(rows, (len(rows), *shape_of(rows[0])), info.dtype)


def _refuse_plain(instances: list[Value], info: TensorInfo) -> None:
    """Go through the instances one by one, to the first that is wrong."""
    first: np.ndarray | None = None
    for index, value in enumerate(instances):
        if is_named_values(value):
            raise InvalidArgument(f"Expecting value/list but got object at item {index} of input list")
        try:
            first = _checked_against(first, value, info)
        except ServingError as error:
            raise InvalidArgument(
                f"Failed to process element: {index} of 'instances' list. Error: {error.status}"
            ) from None


def _checked_against(first: np.ndarray | None, value: Value, info: TensorInfo) -> np.ndarray:
    """The first instance's array, which this one must agree with; it is the first itself where there is none yet."""
    array = to_array(value, info.dtype)
    if first is None:
        return array
    if array.size != first.size:
        raise InvalidArgument(f"Expecting tensor size: {first.size} but got: {array.size}")
    if array.shape != first.shape:
        raise InvalidArgument(f"Expecting shape {_text(first.shape)} but got: {_text(array.shape)}")
    return first


def _text(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _read_objects(instances: list[Value], infos: Inputs) -> dict[str, np.ndarray]:
    columns = _columns(instances, {as_bytes(alias) for alias in infos})
    if columns is None:
        _refuse_objects(instances, infos)
        raise AssertionError("rows that fit were refused")
    try:
        return {alias: _stacked(columns[as_bytes(alias)], info) for alias, info in infos.items()}
    except ServingError:
        _refuse_objects(instances, infos)
        raise


def _columns(instances: list[Value], names: set[bytes]) -> dict[bytes, list[Value]] | None:
    """The instances' values under each name; None where one has other names, or is no such object."""
    columns: dict[bytes, list[Value]] = {name: [] for name in names}
    for instance in instances:
        if not is_named_values(instance):
            return None
        members = dict(instance.members)
        if members.keys() != names:
            return None
        for name, value in members.items():
            columns[name].append(value)
    return columns


def _refuse_objects(instances: list[Value], infos: Inputs) -> None:
    firsts: dict[str, np.ndarray] = {}
    for index, instance in enumerate(instances):
        if not is_named_values(instance):
            raise InvalidArgument(f"Expecting object but got list at item {index} of input list")
        for alias, value in _aliased(instance):
            try:
                if alias not in infos:
                    raise InvalidArgument(f"JSON object: does not have named input: {alias}")
                firsts[alias] = _checked_against(firsts.get(alias), value, infos[alias])
            except ServingError as error:
                raise InvalidArgument(
                    f"Failed to process element: {index} key: {alias} of 'instances' list. Error: {error.status}"
                ) from None
        if {alias for alias, _ in _aliased(instance)} != infos.keys():
            raise InvalidArgument(
                f"Failed to process element: {index} of 'instances' list. JSON object: {dump(instance)} "
                f"keys must be equal to: {','.join(sorted(infos))}"
            )


def _aliased(instance: Object) -> Iterator[tuple[str, Value]]:
    return ((as_message(name), value) for name, value in instance.members)
