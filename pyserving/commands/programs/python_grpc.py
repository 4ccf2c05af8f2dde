"""Python with the stubs of tensorflow-serving-api."""

from __future__ import annotations

from collections.abc import Iterator

from pyserving.commands.programs.template import Addresses, Template, in_python, literal, question
from pyserving.commands.sample import SampleRequest, SampleTensor, feature_list
from pyserving.errors import Unimplemented
from pyserving.signature import DataType

_PROGRAM = Template('''\
"""§question, over gRPC: python3 ask.py

Needs: pip install tensorflow-serving-api
"""

import sys

import grpc
import tensorflow as tf
from tensorflow_serving.apis import §module, prediction_service_pb2_grpc

TARGET = §target

request = §module.§message()
request.model_spec.name = §model
request.model_spec.signature_name = §signature
§inputs

with grpc.insecure_channel(TARGET) as channel:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    try:
        response = stub.§method(request, timeout=60)
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
§answer
''')
_OUTPUTS = """\
for alias, tensor in sorted(response.outputs.items()):
    print(alias, tf.make_ndarray(tensor).tolist())"""
_MESSAGES = {
    "Predict": ("predict_pb2", "PredictRequest"),
    "Classify": ("classification_pb2", "ClassificationRequest"),
    "Regress": ("regression_pb2", "RegressionRequest"),
}
_NAMES = {DataType.DT_FLOAT: "float32", DataType.DT_DOUBLE: "float64", DataType.DT_HALF: "float16"}
"""Of types that Python's TensorFlow calls otherwise."""
_QUANTIZED = frozenset(data_type for data_type in DataType if data_type.type_name.startswith("q"))
"""Types of whose elements TensorFlow wants tuples."""
_NOT_MADE = frozenset([DataType.DT_FLOAT8_E4M3FNUZ, DataType.DT_FLOAT8_E4M3B11FNUZ, DataType.DT_FLOAT8_E5M2FNUZ])
"""Types of which TensorFlow's Python makes no TensorProto."""


def program(request: SampleRequest, addresses: Addresses) -> str:
    module, message = _MESSAGES[request.method]
    return _PROGRAM.substitute(
        question=question(request),
        module=module,
        message=message,
        target=literal(addresses.grpc),
        model=literal(request.model),
        signature=literal(request.signature_name),
        inputs="\n".join(_inputs(request) if request.method == "Predict" else _example(request)),
        method=request.method,
        answer=_OUTPUTS if request.method == "Predict" else "print(response.result)",
    )


def _inputs(request: SampleRequest) -> Iterator[str]:
    for alias, tensor in request.tensors.items():
        if tensor.data_type in _NOT_MADE:
            raise Unimplemented(f"{alias} is {tensor.data_type.type_name}, which TensorFlow's Python cannot send")
        name = _NAMES.get(tensor.data_type, tensor.data_type.type_name)
        made = f'tf.make_tensor_proto({_value(tensor)}, dtype="{name}", shape={[*tensor.shape]})'
        yield f"request.inputs[{literal(alias)}].CopyFrom({made})"


def _value(tensor: SampleTensor) -> str:
    if tensor.data_type in _QUANTIZED:
        return "(0,)"
    return in_python(tensor.values() if tensor.is_shown else tensor.element)


def _example(request: SampleRequest) -> Iterator[str]:
    yield "example = request.input.example_list.examples.add()"
    for name, tensor in request.tensors.items():
        element = 'b""' if tensor.data_type is DataType.DT_STRING else repr(tensor.element)
        values = f"[{element}] * {tensor.size}" if tensor.size > 1 else f"[{element}]"
        yield f"example.features.feature[{literal(name)}].{feature_list(tensor.data_type)}.value.extend({values})"
