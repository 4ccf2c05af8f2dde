"""ModelSpec between its proto and the value the core understands."""

from __future__ import annotations

from functools import lru_cache

from pyserving import protos
from pyserving.types import ModelSpec, ServableId


def decode(proto: protos.ModelSpec) -> ModelSpec:
    """What the caller wrote. A present wrapper of 0 is version 0, a present empty label is a label."""
    choice = proto.WhichOneof("version_choice")
    return ModelSpec(
        name=proto.name,
        version=proto.version.value if choice == "version" else None,
        version_label=proto.version_label if choice == "version_label" else None,
        signature_name=proto.signature_name,
    )


def from_wire(wire: bytes) -> ModelSpec:
    """The same from a serialized ModelSpec; those that keep coming are read once."""
    return _kept(wire) if len(wire) <= _MAX_KEPT_BYTES else decode(protos.ModelSpec.FromString(wire))


_MAX_KEPT_BYTES = 512


@lru_cache(maxsize=1024)
def _kept(wire: bytes) -> ModelSpec:
    return decode(protos.ModelSpec.FromString(wire))


def encode_into(proto: protos.ModelSpec, servable_id: ServableId, signature_name: str = "") -> None:
    """What answers carry: the version that was used, never the label. As util.cc MakeModelSpec."""
    proto.name = servable_id.name
    proto.version.value = servable_id.version
    if signature_name:
        proto.signature_name = signature_name


def put(spec: ModelSpec, proto: protos.ModelSpec) -> None:
    """What a caller writes, into an empty proto."""
    proto.name, proto.signature_name = spec.name, spec.signature_name
    if spec.version is not None:
        proto.version.value = spec.version
    elif spec.version_label is not None:
        proto.version_label = spec.version_label
