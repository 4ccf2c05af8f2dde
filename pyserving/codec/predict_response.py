"""PredictResponses as bytes: all that stands before the elements of an array is worked out once for its shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod

import numpy as np

from pyserving import protos
from pyserving.codec import model_spec
from pyserving.codec.tensor_proto import dtype_and_shape, elements_tag, encode_into, encoded_varint
from pyserving.errors import Internal
from pyserving.types import ServableId

_OUTPUTS, _KEY, _TENSOR = b"\x0a", b"\x0a", b"\x12"
"""Tags: PredictResponse.outputs, and the two fields of an entry of this map."""
_MAX_MESSAGE_BYTES = 0x7FFF_FFFF  # clients' protobuf refuses more
_SMALL_BYTES = 4096  # copying so few costs less than a view of them


def encode(
    servable_id: ServableId, signature_name: str, outputs: Mapping[str, np.ndarray], *, as_content: bool = False
) -> bytes:
    """The answer with the version that was used, and each output as `encode_into` writes it.

    ValueError for an array that TensorFlow has no type for; Internal when the answer is larger than a message can be.
    """
    parts: list[bytes | memoryview] = []
    for alias, array in outputs.items():
        head = _head(alias, array.dtype, array.shape, as_content)
        if head is None:
            parts.append(_encoded_entry(alias, array, as_content))
        else:
            parts += (head, _elements(array))
    parts.append(_encoded_spec(servable_id.name, servable_id.version, signature_name))
    body = b"".join(parts)
    if len(body) > _MAX_MESSAGE_BYTES:
        raise Internal(f"The response takes {len(body)} bytes; no message can have more than {_MAX_MESSAGE_BYTES}")
    return body


class Template:
    """Writes one answer after another of the same signature, whose outputs mostly keep their shapes."""

    __slots__ = ("_aliases", "_as_content", "_end", "_heads", "_id", "_signature_name")

    def __init__(
        self, servable_id: ServableId, signature_name: str, aliases: Sequence[str], *, as_content: bool = False
    ) -> None:
        self._id = servable_id
        self._signature_name = signature_name
        self._aliases = aliases
        self._as_content = as_content
        self._end = _encoded_spec(servable_id.name, servable_id.version, signature_name)
        self._heads: list[tuple[tuple[int, ...], np.dtype | None, bytes]] = [((), None, b"")] * len(aliases)

    def encode(self, outputs: Sequence[np.ndarray]) -> bytes:
        """As the function `encode`, of outputs in the order of the aliases."""
        parts: list[bytes] = []
        for index, array in enumerate(outputs):
            shape, dtype, head = self._heads[index]
            if array.dtype is not dtype or array.shape != shape:
                known = _head(self._aliases[index], array.dtype, array.shape, self._as_content)
                if known is None:
                    return self._encode_all(outputs)
                self._heads[index] = array.shape, array.dtype, known
                head = known
            if array.nbytes >= _SMALL_BYTES:
                return self._encode_all(outputs)
            parts += (head, array.tobytes())
        parts.append(self._end)
        return b"".join(parts)

    def _encode_all(self, outputs: Sequence[np.ndarray]) -> bytes:
        by_alias = dict(zip(self._aliases, outputs, strict=True))
        return encode(self._id, self._signature_name, by_alias, as_content=self._as_content)


@lru_cache(maxsize=1024)
def _head(alias: str, dtype: np.dtype, shape: tuple[int, ...], as_content: bool) -> bytes | None:
    """An entry of `outputs` up to the elements; None where they do not go onto the wire as they are."""
    tag = elements_tag(dtype, as_content=as_content)
    if tag is None:
        return None
    size = prod(shape) * dtype.itemsize
    tensor = dtype_and_shape(dtype, shape) + (tag + encoded_varint(size) if size else b"")
    key = alias.encode()
    entry = b"".join(
        (_KEY, encoded_varint(len(key)), key, _TENSOR, encoded_varint(len(tensor) + size), tensor),
    )
    return _OUTPUTS + encoded_varint(len(entry) + size) + entry


def _elements(array: np.ndarray) -> bytes | memoryview:
    return array.tobytes() if array.nbytes < _SMALL_BYTES else array.ravel().view(np.uint8).data


def _encoded_entry(alias: str, array: np.ndarray, as_content: bool) -> bytes:
    response = protos.PredictResponse()
    encode_into(array, response.outputs[alias], as_content=as_content)
    return response.SerializeToString()


@lru_cache(maxsize=1024)
def _encoded_spec(name: str, version: int, signature_name: str) -> bytes:
    response = protos.PredictResponse()
    model_spec.encode_into(response.model_spec, ServableId(name, version), signature_name)
    return response.SerializeToString()
