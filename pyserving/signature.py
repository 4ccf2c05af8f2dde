"""Signatures of a model and the data types of TensorFlow, without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import ml_dtypes
import numpy as np

PREDICT_METHOD_NAME = "tensorflow/serving/predict"
CLASSIFY_METHOD_NAME = "tensorflow/serving/classify"
REGRESS_METHOD_NAME = "tensorflow/serving/regress"
DEFAULT_SIGNATURE_NAME = "serving_default"


class DataType(IntEnum):
    """tensorflow.DataType, the integers of types.proto."""

    DT_INVALID = 0
    DT_FLOAT = 1
    DT_DOUBLE = 2
    DT_INT32 = 3
    DT_UINT8 = 4
    DT_INT16 = 5
    DT_INT8 = 6
    DT_STRING = 7
    DT_COMPLEX64 = 8
    DT_INT64 = 9
    DT_BOOL = 10
    DT_QINT8 = 11
    DT_QUINT8 = 12
    DT_QINT32 = 13
    DT_BFLOAT16 = 14
    DT_QINT16 = 15
    DT_QUINT16 = 16
    DT_UINT16 = 17
    DT_COMPLEX128 = 18
    DT_HALF = 19
    DT_RESOURCE = 20
    DT_VARIANT = 21
    DT_UINT32 = 22
    DT_UINT64 = 23
    DT_FLOAT8_E5M2 = 24
    DT_FLOAT8_E4M3FN = 25
    DT_FLOAT8_E4M3FNUZ = 26
    DT_FLOAT8_E4M3B11FNUZ = 27
    DT_FLOAT8_E5M2FNUZ = 28
    DT_INT4 = 29
    DT_UINT4 = 30
    DT_INT2 = 31
    DT_UINT2 = 32

    @property
    def type_name(self) -> str:
        """As TensorFlow's DataTypeString spells it in sentences: `float`, `half`, `string`."""
        return self.name.removeprefix("DT_").lower()

    @property
    def numpy(self) -> np.dtype | None:
        """The array type that stands for this one; None where arrays cannot hold it (resource, variant)."""
        return _NUMPY.get(self)


# Quantized types are one-field records in TensorFlow's own NumPy bridge, which tells them from plain integers by the
# field's name (tensorflow/python/framework/dtypes.py).
_NUMPY: dict[DataType, np.dtype] = {
    DataType.DT_FLOAT: np.dtype(np.float32),
    DataType.DT_DOUBLE: np.dtype(np.float64),
    DataType.DT_INT32: np.dtype(np.int32),
    DataType.DT_UINT8: np.dtype(np.uint8),
    DataType.DT_INT16: np.dtype(np.int16),
    DataType.DT_INT8: np.dtype(np.int8),
    DataType.DT_STRING: np.dtype(object),
    DataType.DT_COMPLEX64: np.dtype(np.complex64),
    DataType.DT_INT64: np.dtype(np.int64),
    DataType.DT_BOOL: np.dtype(np.bool_),
    DataType.DT_QINT8: np.dtype([("qint8", np.int8)]),
    DataType.DT_QUINT8: np.dtype([("quint8", np.uint8)]),
    DataType.DT_QINT32: np.dtype([("qint32", np.int32)]),
    DataType.DT_BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    DataType.DT_QINT16: np.dtype([("qint16", np.int16)]),
    DataType.DT_QUINT16: np.dtype([("quint16", np.uint16)]),
    DataType.DT_UINT16: np.dtype(np.uint16),
    DataType.DT_COMPLEX128: np.dtype(np.complex128),
    DataType.DT_HALF: np.dtype(np.float16),
    DataType.DT_UINT32: np.dtype(np.uint32),
    DataType.DT_UINT64: np.dtype(np.uint64),
    DataType.DT_FLOAT8_E5M2: np.dtype(ml_dtypes.float8_e5m2),
    DataType.DT_FLOAT8_E4M3FN: np.dtype(ml_dtypes.float8_e4m3fn),
    DataType.DT_FLOAT8_E4M3FNUZ: np.dtype(ml_dtypes.float8_e4m3fnuz),
    DataType.DT_FLOAT8_E4M3B11FNUZ: np.dtype(ml_dtypes.float8_e4m3b11fnuz),
    DataType.DT_FLOAT8_E5M2FNUZ: np.dtype(ml_dtypes.float8_e5m2fnuz),
    DataType.DT_INT4: np.dtype(ml_dtypes.int4),
    DataType.DT_UINT4: np.dtype(ml_dtypes.uint4),
    DataType.DT_INT2: np.dtype(ml_dtypes.int2),
    DataType.DT_UINT2: np.dtype(ml_dtypes.uint2),
}
_BY_NUMPY: dict[np.dtype, DataType] = {dtype: data_type for data_type, dtype in _NUMPY.items()}


def data_type_of(array: np.ndarray) -> DataType:
    """The TensorFlow type of an array; DT_INVALID for one that TensorFlow has no type for.

    Object arrays hold bytes and are DT_STRING.
    """
    return _BY_NUMPY.get(array.dtype, DataType.DT_INVALID)


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What a signature says of one input or output; its alias is the key it stands under."""

    name: str
    """The graph tensor's name, `x:0`; empty for sparse and composite tensors, which have no single one."""
    dtype: DataType
    shape: tuple[int, ...] | None
    """-1 for an open dimension; None for an unknown rank."""


@dataclass(frozen=True, slots=True)
class SignatureDef:
    """One signature of a model. Made once, at load."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]
    method_name: str = PREDICT_METHOD_NAME
    defaults: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Values for inputs that a request may leave out."""
    debug_string: str = ""
    """The proto's text, for error sentences that quote it."""
