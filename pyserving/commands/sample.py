"""Requests to begin with: for a signature, inputs of the right names, types and shapes, open dimensions being 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from pyserving import protos
from pyserving.codec.tensor_proto import encode_into
from pyserving.errors import Unimplemented
from pyserving.signature import CLASSIFY_METHOD_NAME, REGRESS_METHOD_NAME, DataType, SignatureDef

MOST_SHOWN = 64
"""Elements that a person wants to see."""
_METHODS = {CLASSIFY_METHOD_NAME: "Classify", REGRESS_METHOD_NAME: "Regress"}
_REQUESTS = {
    "Predict": protos.PredictRequest,
    "Classify": protos.ClassificationRequest,
    "Regress": protos.RegressionRequest,
}


@dataclass(frozen=True, slots=True)
class SampleTensor:
    """A tensor whose elements are all the same: empty strings, false, or zero."""

    data_type: DataType
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def is_shown(self) -> bool:
        """Whether its elements are so few that they may be written out."""
        return self.size <= MOST_SHOWN

    @property
    def element(self) -> str | bool | int | float:
        if self.data_type is DataType.DT_STRING:
            return ""
        if self.data_type is DataType.DT_BOOL:
            return False
        return 0 if self.data_type.type_name.lstrip("qu").startswith("int") else 0.0

    def values(self) -> Any:
        """Nested lists."""
        return np.full(self.shape, self.element).tolist()

    def array(self) -> np.ndarray:
        """Strings as an object array of bytes."""
        if self.data_type is DataType.DT_STRING:
            return np.full(self.shape, b"", object)
        return np.zeros(self.shape, self.data_type.numpy)


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A valid request to one signature of a model."""

    model: str
    signature_name: str
    method: str
    """Predict, Classify or Regress."""
    tensors: Mapping[str, SampleTensor]
    """The inputs of a Predict request; the features of the one Example of another."""

    def message(self) -> Any:
        """The method's request, with tensors in their typed fields."""
        request = self._with_model_spec()
        if self.method == "Predict":
            for alias, tensor in self.tensors.items():
                encode_into(tensor.array(), request.inputs[alias], as_content=False)
        else:
            self.put_example(request.input.example_list.examples.add())
        return request

    def short_message(self) -> Any:
        """As `message`, with only the first element of large tensors: TensorFlow takes the last for all that follow."""
        request = self._with_model_spec()
        if self.method != "Predict":
            return self.message()
        for alias, tensor in self.tensors.items():
            shown = tensor if tensor.is_shown else SampleTensor(tensor.data_type, (1,))
            encode_into(shown.array(), request.inputs[alias], as_content=False)
            shape = request.inputs[alias].tensor_shape
            del shape.dim[:]
            for size in tensor.shape:
                shape.dim.add(size=size)
        return request

    def put_example(self, example: Any) -> None:
        """Fill a tf.Example."""
        for name, tensor in self.tensors.items():
            values = tensor.array().ravel().tolist()
            getattr(example.features.feature[name], feature_list(tensor.data_type)).value.extend(values)

    def _with_model_spec(self) -> Any:
        request: Any = _REQUESTS[self.method]()
        request.model_spec.name, request.model_spec.signature_name = self.model, self.signature_name
        return request


def feature_list(data_type: DataType) -> str:
    """The field of a tf.Feature that holds such elements."""
    if data_type is DataType.DT_STRING:
        return "bytes_list"
    return "int64_list" if data_type is DataType.DT_INT64 else "float_list"


def sample_request(
    model: str, signature_name: str, signature: SignatureDef, features: Mapping[str, SampleTensor]
) -> SampleRequest:
    """A request to the method that the signature is made for; `features` are those of its Examples, where known."""
    method = _METHODS.get(signature.method_name, "Predict")
    tensors = sample_tensors(signature) if method == "Predict" else features
    return SampleRequest(model, signature_name, method, tensors)


def sample_tensors(signature: SignatureDef) -> dict[str, SampleTensor]:
    """By alias, in the order of the names. Unimplemented for an input that no tensor of a request can be."""
    tensors = {}
    for alias, info in sorted(signature.inputs.items()):
        if not info.name or info.dtype.numpy is None:
            raise Unimplemented(f"no request can carry the input {alias}: it is sparse, composite or a resource")
        tensors[alias] = SampleTensor(info.dtype, tuple(1 if size < 0 else size for size in info.shape or ()))
    return tensors
