"""SignatureDef protos as values."""

from __future__ import annotations

from google.protobuf import text_format

from pyserving import protos
from pyserving.codec import tensor_proto
from pyserving.signature import DataType, SignatureDef, TensorInfo

_REFERENCE = 100
"""types.proto: a reference type is its plain type plus a hundred."""


def decode(proto: protos.SignatureDef) -> SignatureDef:
    """The values that a SignatureDef proto holds. ValueError for a default that is no array."""
    return SignatureDef(
        inputs={alias: _tensor_info(info) for alias, info in proto.inputs.items()},
        outputs={alias: _tensor_info(info) for alias, info in proto.outputs.items()},
        method_name=proto.method_name,
        defaults={alias: tensor_proto.decode(tensor) for alias, tensor in proto.defaults.items()},
        debug_string=text_format.MessageToString(proto),
    )


def _tensor_info(proto: protos.TensorInfo) -> TensorInfo:
    shape = proto.tensor_shape
    return TensorInfo(
        name=proto.name,
        dtype=_data_type(proto.dtype),
        shape=None if shape.unknown_rank else tuple(dim.size for dim in shape.dim),
    )


def _data_type(value: int) -> DataType:
    try:
        return DataType(value % _REFERENCE)
    except ValueError:
        return DataType.DT_INVALID
