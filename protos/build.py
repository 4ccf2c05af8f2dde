"""Make pyserving/serving.desc and pyserving/protos.pyi from the .proto files beside this script.

    python protos/build.py           # write both
    python protos/build.py --check   # exit with 1 when what is committed differs; with 2 under another TensorFlow

Needs `pip install -e .[dev]`, with the TensorFlow release named below: its wheel carries no .proto files, so the
descriptors of its messages are taken out of its Python modules.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib import import_module
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

TENSORFLOW = "2.21"
"""Another release has other messages, and would make another file."""

SOURCES = Path(__file__).resolve().parent
PACKAGE = SOURCES.parent / "pyserving"

TENSORFLOW_FILES = (
    "tensorflow/core/example/example.proto",
    "tensorflow/core/framework/tensor.proto",
    "tensorflow/core/protobuf/config.proto",
    "tensorflow/core/protobuf/error_codes.proto",
    "tensorflow/core/protobuf/meta_graph.proto",
    "tensorflow/core/protobuf/named_tensor.proto",
    "tensorflow/core/protobuf/saved_model.proto",
    "tensorflow/core/protobuf/tensor_bundle.proto",
    "tsl/profiler/protobuf/profiler_options.proto",
    "tsl/profiler/protobuf/xplane.proto",
)
"""What our files import, and what lies in a model's folder."""


def tensorflow_descriptors() -> FileDescriptorSet:
    """TENSORFLOW_FILES and all they import, imports first."""
    found: dict[str, FileDescriptorProto] = {}

    def add(file: FileDescriptor) -> None:
        if file.name not in found and not file.name.startswith("google/"):
            for dependency in file.dependencies:
                add(dependency)
            found[file.name] = FileDescriptorProto.FromString(file.serialized_pb)

    for name in TENSORFLOW_FILES:
        add(import_module(_module(name)).DESCRIPTOR)
    return FileDescriptorSet(file=found.values())


def _module(proto: str) -> str:
    """Where the wheel has the descriptor of this file."""
    module = proto.removesuffix(".proto").replace("/", ".") + "_pb2"
    return f"tensorflow.{module}" if module.startswith("tsl.") else module


def compiled(tensorflow: FileDescriptorSet) -> FileDescriptorSet:
    """Our files and all they import, without comments, imports first."""
    sources = sorted(path.relative_to(SOURCES).as_posix() for path in SOURCES.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "tensorflow.desc"), Path(folder, "serving.desc")
        given.write_bytes(tensorflow.SerializeToString())
        arguments = [
            f"--proto_path={SOURCES}",
            f"--proto_path={files('grpc_tools') / '_proto'}",
            f"--descriptor_set_in={given}",
            f"--descriptor_set_out={made}",
            "--include_imports",
        ]
        if protoc.main(["protoc", *arguments, *sources, *TENSORFLOW_FILES]) != 0:
            sys.exit("protoc failed")
        descriptors = FileDescriptorSet.FromString(made.read_bytes())
    for file in descriptors.file:
        for message in file.message_type:
            drop_plain_json_names(message)
    return descriptors


def drop_plain_json_names(message: DescriptorProto) -> None:
    """protoc writes every one down; those that follow from the field's name are worked out again by any reader."""
    for field in message.field:
        first, *others = field.name.split("_")
        if field.json_name == first + "".join(word.capitalize() for word in others):
            field.ClearField("json_name")
    for nested in message.nested_type:
        drop_plain_json_names(nested)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    found = import_module("tensorflow").__version__
    if not found.startswith(f"{TENSORFLOW}."):
        parser.error(f"the files are made with TensorFlow {TENSORFLOW}; this is {found}")

    descriptors = compiled(tensorflow_descriptors())
    put(PACKAGE / "serving.desc", descriptors.SerializeToString(deterministic=True), check)
    sys.path.insert(0, str(PACKAGE.parent))
    from stubs import stubs  # reads the descriptors that were put just now

    put(PACKAGE / "protos.pyi", stubs(file.name for file in descriptors.file).encode(), check)


def put(path: Path, content: bytes, check: bool) -> None:
    if not check:
        path.write_bytes(content)
    elif not path.exists() or path.read_bytes() != content:
        sys.exit(f"{path.name} is not what protos/build.py makes; run it and commit the result")


if __name__ == "__main__":
    main()
