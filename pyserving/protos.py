"""Message classes of TensorFlow Serving, TensorFlow and gRPC by short name: `protos.PredictRequest`.

They live in a descriptor pool of their own, so that they meet neither TensorFlow nor tensorflow-serving-api in the same
process. Made from serving.desc, which protos/build.py writes.
"""

from __future__ import annotations

from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

PACKAGES = (
    "tensorflow.serving",
    "tensorflow.serving.internal",
    "tensorflow.serving.tools",
    "pyserving",
    "tensorflow",
    "tensorflow.error",
    "tensorflow.profiler",
    "tensorflow.tfrt_stub",
    "grpc.health.v1",
    "grpc.reflection.v1alpha",
    "grpc.reflection.v1",
    "google.protobuf",
)
"""Where a short name is looked for; the first that has it wins."""


def _load() -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(Path(__file__).with_name("serving.desc").read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


pool = _load()


def message_class(full_name: str) -> type[Message]:
    """The class of the message with this full name; KeyError when there is none."""
    return GetMessageClass(pool.FindMessageTypeByName(full_name))


def __getattr__(name: str) -> object:
    for package in PACKAGES:
        try:
            found = _find(f"{package}.{name}")
        except KeyError:
            continue
        globals()[name] = found  # asked for once
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _find(full_name: str) -> object:
    try:
        return message_class(full_name)
    except KeyError:
        return EnumTypeWrapper(pool.FindEnumTypeByName(full_name))
