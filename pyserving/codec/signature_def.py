"""SignatureDef protos as values, without TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf import text_format

from pyserving import protos
from pyserving.codec import tensor_proto
from pyserving.signature import DataType, SignatureDef, TensorInfo

REFERENCE = 100
"""types.proto: a reference type is its plain type plus a hundred."""


def decode(proto: Any) -> SignatureDef:
    """The values that a SignatureDef proto holds, be it ours or TensorFlow's. ValueError for a default that is none."""
    return SignatureDef(
        inputs={alias: _tensor_info(info) for alias, info in proto.inputs.items()},
        outputs={alias: _tensor_info(info) for alias, info in proto.outputs.items()},
        method_name=proto.method_name,
        defaults={alias: _array(tensor) for alias, tensor in proto.defaults.items()},
        debug_string=text_format.MessageToString(proto),
    )


def _tensor_info(proto: Any) -> TensorInfo:
    shape = proto.tensor_shape
    return TensorInfo(
        name=proto.name,
        dtype=data_type(proto.dtype),
        shape=None if shape.unknown_rank else tuple(dim.size for dim in shape.dim),
    )


def _array(tensor: Any) -> np.ndarray:
    return tensor_proto.decode(protos.TensorProto.FromString(tensor.SerializeToString()))


def data_type(value: int) -> DataType:
    """The type behind an integer of types.proto, with the reference taken off; DT_INVALID for one we do not know."""
    try:
        return DataType(value % REFERENCE)
    except ValueError:
        return DataType.DT_INVALID
