"""Everything of TensorFlow Serving that a client or an operator can touch, item by item.

RPCs and fields come from the protobuf descriptors, flags from the parser, so that none is forgotten; what neither tells
is listed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorSet

from pyserving.options import FLAGS

ROOT = Path(__file__).parents[2]

SERVICES = ("tensorflow.serving.", "tensorflow.ProfilerService", "grpc.health.v1.", "grpc.reflection.")

RPCS_WITHOUT_A_DESCRIPTOR = ("PredictionService.PredictStreamed",)
"""It has messages but no method in the open source."""

CONFIG_FILES = (
    "tensorflow_serving/config/",
    "tensorflow_serving/servables/",
    "tensorflow/core/grappler/optimizers/inference/",
    "tensorflow/core/tfrt/",
)

MESSAGE_FILES = ("tensorflow_serving/apis/",)
INTERNAL_FILES = ("tensorflow_serving/apis/internal/",)
"""Never on the wire."""

REST_REQUESTS = (
    "POST :predict, rows",
    "POST :predict, columns",
    "POST :classify",
    "POST :regress",
    "GET status",
    "GET metadata",
    "GET metrics",
    "OPTIONS",
)

METRICS = (
    ":tensorflow:serving:request_count",
    ":tensorflow:serving:request_latency",
    ":tensorflow:serving:runtime_latency",
    ":tensorflow:serving:request_example_counts",
    ":tensorflow:serving:request_example_count_total",
    ":tensorflow:serving:model_warmup_latency",
    ":tensorflow:serving:model_warmup_records_read",
    ":tensorflow:serving:mlmd_map",
    ":tensorflow:serving:request_log_count",
    ":tensorflow:serving:batching_session:queuing_latency",
    ":tensorflow:serving:batching_session:wrapped_run_count",
    ":tensorflow:serving:batching_session:input_batch_size",
    ":tensorflow:serving:batching_session:processed_batch_size",
    ":tensorflow:serving:batching_session:padding_size",
    ":tensorflow:cc:saved_model:load_attempt_count",
    ":tensorflow:cc:saved_model:load_latency",
    ":tensorflow:cc:saved_model:load_latency_by_stage",
    ":tensorflow:core:direct_session_runs",
    ":tensorflow:core:graph_runs",
    ":tensorflow:core:graph_run_time_usecs",
    ":tensorflow:core:graph_run_time_usecs_histogram",
    ":tensorflow:core:graph_run_input_tensor_bytes",
    ":tensorflow:core:graph_run_output_tensor_bytes",
    ":tensorflow:core:graph_pending_queue_length_histogram",
    ":tensorflow:core:graph_unused_outputs",
    ":tensorflow:core:graph_build_calls",
    ":tensorflow:core:graph_build_time_usecs",
    ":tensorflow:core:graph_optimization_usecs",
    ":tensorflow:core:saved_model:read:count",
    ":tensorflow:core:saved_model:read:api",
)
"""All of TensorFlow Serving's own, and those of TensorFlow's core that move while a server loads and runs models."""


def surface() -> Mapping[str, list[str]]:
    """The items of each section, as marks name them."""
    files = FileDescriptorSet.FromString((ROOT / "pyserving" / "serving.desc").read_bytes())
    return {
        "RPCs": [f"rpc {name}" for name in dict.fromkeys([*_rpcs(files), *RPCS_WITHOUT_A_DESCRIPTOR])],
        "Fields of requests and answers": [f"field {name}" for name in _fields(files, MESSAGE_FILES)],
        "REST": [f"rest {name}" for name in REST_REQUESTS],
        "Fields of config files": [f"field {name}" for name in _fields(files, CONFIG_FILES)],
        "Flags": [f"flag {name}" for name in FLAGS],
        "Metrics": [f"metric {name}" for name in METRICS],
        "Differences": [f"difference: {case}" for case in differences()],
    }


def differences(page: Path = ROOT / "docs" / "differences.md") -> list[str]:
    """The cases that docs/differences.md tells of, each the first cell of a row."""
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    return [row.split(" | ")[0].removeprefix("| ") for row in rows[1:]]


def _rpcs(files: FileDescriptorSet) -> Iterator[str]:
    for file in files.file:
        for service in file.service:
            if f"{file.package}.{service.name}".startswith(SERVICES):
                name = service.name if file.package.startswith("tensorflow") else f"{file.package}.{service.name}"
                yield from (f"{name}.{method.name}" for method in service.method)


def _fields(files: FileDescriptorSet, folders: tuple[str, ...]) -> Iterator[str]:
    for file in files.file:
        if file.name.startswith(folders) and not file.name.startswith(INTERNAL_FILES):
            for message in file.message_type:
                yield from _fields_of(message, message.name)


def _fields_of(message: DescriptorProto, name: str) -> Iterator[str]:
    yield from (f"{name}.{field.name}" for field in message.field)
    for nested in message.nested_type:
        if not nested.options.map_entry:
            yield from _fields_of(nested, f"{name}.{nested.name}")
