"""Pieces of clients that were written years ago: stubs of before grpcio 1.0, the protos of 2016, a warm-up writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc.beta import implementations
from grpc.framework.common import cardinality
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

SERVICE = "tensorflow.serving.PredictionService"


def beta_stub(channel: grpc.Channel) -> Any:
    """What `beta_create_PredictionService_stub` gave: calls with a timeout, and `.future`."""
    return implementations.dynamic_stub(
        implementations.Channel(channel),
        SERVICE,
        {"Predict": cardinality.Cardinality.UNARY_UNARY},
        implementations.stub_options(
            request_serializers={(SERVICE, "Predict"): predict_pb2.PredictRequest.SerializeToString},
            response_deserializers={(SERVICE, "Predict"): predict_pb2.PredictResponse.FromString},
        ),
    )


def predict_response_of_2016() -> type[Any]:
    """PredictResponse as it was before it told the model's name and version: outputs and nothing else."""
    pool = DescriptorPool()
    _add(pool, tensor_pb2.DESCRIPTOR)
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="tensorflow_serving/apis/predict.proto",
        package="tensorflow.serving",
        syntax="proto3",
        dependency=[tensor_pb2.DESCRIPTOR.name],
    )
    response = file.message_type.add(name="PredictResponse")
    of_type = {"label": field.LABEL_REPEATED, "type": field.TYPE_MESSAGE}
    response.field.add(
        name="outputs", number=1, type_name=".tensorflow.serving.PredictResponse.OutputsEntry", **of_type
    )
    entry = response.nested_type.add(name="OutputsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(
        name="value", number=2, type=field.TYPE_MESSAGE, label=field.LABEL_OPTIONAL, type_name=".tensorflow.TensorProto"
    )
    pool.Add(file)
    found: type[Any] = message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.serving.PredictResponse"))
    return found


def _add(pool: DescriptorPool, file: FileDescriptor) -> None:
    for dependency in file.dependencies:
        _add(pool, dependency)
    pool.AddSerializedFile(file.serialized_pb)


def write_warmup_requests(version: Path, model: str = "resnet") -> None:
    """As resnet_warmup.py does it: one record, in the folder that the server looks into."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "serving_default"
    request.inputs["input_1"].CopyFrom(tf.make_tensor_proto([[[[0.0, 0.5, 1.0]]]], shape=[1, 1, 1, 3]))
    log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
    folder = version / "assets.extra"
    folder.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())
