"""Signatures of a TensorFlow Lite model, as tflite_session.cc finds them or makes one up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flatbuffers import flexbuffers

from pyserving import protos
from pyserving.errors import Internal, InvalidArgument
from pyserving.executors.tflite_interpreter import Tensor
from pyserving.signature import DEFAULT_SIGNATURE_NAME, PREDICT_METHOD_NAME

_METADATA_NAME = b"signature_defs_metadata"


def signature_def_map(
    model: Any, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
) -> protos.SignatureDefMap:
    """The SignatureDefs in the model's metadata, or else one of all inputs and outputs.

    `model` is the root table of its flatbuffer. The signatures of TensorFlow Lite's own kind, which converters write
    beside, are not looked at: TensorFlow Serving does not, and names its own aliases in their place.
    """
    found = protos.SignatureDefMap()
    try:
        for name, serialized in _in_metadata(model).items():
            found.signature_def[name].ParseFromString(serialized)
    except Exception as error:  # flexbuffers follows whatever the bytes say, to wherever that leads
        raise InvalidArgument(f"Invalid SignatureDefs found in TfLite model: {error}") from None
    for signature in found.signature_def.values():
        _correct_names("input", signature.inputs, inputs)
        _correct_names("output", signature.outputs, outputs)
    if not found.signature_def:
        _make_up(found.signature_def[DEFAULT_SIGNATURE_NAME], inputs, outputs)
    return found


def _in_metadata(model: Any) -> dict[str, bytes]:
    """Name of each signature, and its serialized SignatureDef."""
    for metadata in map(model.Metadata, range(model.MetadataLength())):
        if metadata.Name() == _METADATA_NAME:
            packed = flexbuffers.GetRoot(model.Buffers(metadata.Buffer()).DataAsNumpy().tobytes()).AsMap
            return {key.AsKey: bytes(packed[key.AsKey].AsStringBytes) for key in packed.Keys}
    return {}


def _correct_names(kind: str, infos: Any, tensors: Mapping[str, Tensor]) -> None:
    for alias, info in infos.items():
        try:
            info.name = known_name(info.name, tensors)
        except Internal as error:
            raise Internal(f"{error}\n\tSignature {kind} {alias} references an unknown tensor") from None


def known_name(name: str, tensors: Mapping[str, Tensor]) -> str:
    """The name itself, or without its `:0`, which early converters took away. Internal: the model has neither."""
    for candidate in (name, _without_index(name)):
        if candidate in tensors:
            return candidate
    raise Internal(f"Unknown tensor '{name}'.")


def _make_up(signature: Any, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
    signature.method_name = PREDICT_METHOD_NAME
    for infos, tensors in ((signature.inputs, inputs), (signature.outputs, outputs)):
        for alias, tensor in _aliases(tensors):
            info = infos[alias]
            info.name, info.dtype = tensor.name, int(tensor.data_type)
            for size in tensor.shape:
                info.tensor_shape.dim.add(size=size)


def _aliases(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Names cut at the colon. Of several that come to the same, the last takes it, as TensorFlow Serving has it.

    There the others are lost; here they keep their names whole.
    """
    last = {_without_index(name): name for name in sorted(tensors)}
    for name, tensor in tensors.items():
        alias = _without_index(name)
        yield (alias if last[alias] == name else name), tensor


def _without_index(name: str) -> str:
    return name.partition(":")[0]
