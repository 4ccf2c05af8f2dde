"""Malformed and hostile requests: each gets the right status, the process stays up and answers afterwards."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, inference_pb2, predict_pb2

from tests import models
from tests.conftest import Exported
from tests.end_to_end.client_requests import example, examples_request, outputs, predict_request, status_request
from tests.end_to_end.server_process import Client, ServerProcess

pytestmark = pytest.mark.slow

PREDICT = "/tensorflow.serving.PredictionService/Predict"
X = np.array([1.0, 2.0], np.float32)


class Case(NamedTuple):
    name: str
    method: str
    body: bytes
    code: grpc.StatusCode
    words: str
    """What the details hold."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, exported: Exported) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(exported(models.half_plus_two), folder / "m" / "1")
    with ServerProcess(
        "--model_name=m", f"--model_base_path={folder}/m", "--max_expanded_tensor_bytes=1000000"
    ) as made:
        yield made


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server) as made:
        yield made


def tensor(**fields: Any) -> tensor_pb2.TensorProto:
    made = tensor_pb2.TensorProto(dtype=fields.pop("dtype", types_pb2.DT_FLOAT))
    for size in fields.pop("dims", ()):
        made.tensor_shape.dim.add(size=size)
    for name, value in fields.items():
        if isinstance(value, (list, tuple)):
            getattr(made, name).extend(value)
        else:
            setattr(made, name, value)
    return made


def predict_tensor(made: tensor_pb2.TensorProto, alias: str = "x") -> bytes:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs[alias].CopyFrom(made)
    return request.SerializeToString()


def named(**spec: Any) -> bytes:
    request = predict_request("m", {"x": X})
    label = spec.pop("label", None)
    for field, value in spec.items():
        if field == "version":
            request.model_spec.version.value = value
        else:
            setattr(request.model_spec, field, value)
    if label is not None:
        request.model_spec.version_label = label
    return request.SerializeToString()


def refused_tensors() -> Iterator[Case]:
    parsing = "tensor parsing error: x"
    huge = [
        [2**40], [2**62], [2**63 - 1], [2**31, 2**31], [2**32, 2**32], [10**6, 10**6, 10**6], [250_001], [3] * 40,
        [2**20, 2**20, 2**20, 2**20], [0, 2**62, 2**62],
    ]  # fmt: skip
    for dims in huge[:-1]:
        yield Case(f"huge {dims[:4]}", PREDICT, predict_tensor(tensor(dims=dims)), _INVALID, parsing)
        body = predict_tensor(tensor(dims=dims, float_val=[1.0]))
        yield Case(f"huge, one value {dims[:4]}", PREDICT, body, _INVALID, parsing)
    for dims in ([-1], [2, -1], [-(2**63)], [-2, -2]):
        yield Case(f"negative {dims}", PREDICT, predict_tensor(tensor(dims=dims)), _INVALID, parsing)
    for length in (1, 3, 4, 7, 9, 12, 400):
        body = predict_tensor(tensor(dims=[2], tensor_content=b"\0" * length))
        yield Case(f"content of {length} bytes", PREDICT, body, _INVALID, parsing)
    for dtype in (0, types_pb2.DT_RESOURCE, types_pb2.DT_VARIANT, 33, 99, 101, 119, 2**31 - 1):
        yield Case(f"dtype {dtype}", PREDICT, predict_tensor(tensor(dtype=dtype, dims=[1])), _INVALID, parsing)
    for dtype, word in _WRONG_TYPES.items():
        yield Case(
            f"a {word} for a float",
            PREDICT,
            predict_tensor(tensor(dtype=dtype, dims=[2])),
            _INVALID,
            f"Expects arg[0] to be float but {word} is provided",
        )
    broken_strings = (b"\x05", b"\xff\xff\xff\xff\xff\xff", b"\x01\x01a", b"\x80")
    for content in broken_strings:
        body = predict_tensor(tensor(dtype=types_pb2.DT_STRING, dims=[2], tensor_content=content))
        yield Case(f"string content {content!r}", PREDICT, body, _INVALID, parsing)


_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_NOT_FOUND = grpc.StatusCode.NOT_FOUND
_WRONG_TYPES = {
    types_pb2.DT_DOUBLE: "double",
    types_pb2.DT_INT32: "int32",
    types_pb2.DT_UINT8: "uint8",
    types_pb2.DT_INT64: "int64",
    types_pb2.DT_STRING: "string",
    types_pb2.DT_BOOL: "bool",
    types_pb2.DT_HALF: "half",
    types_pb2.DT_BFLOAT16: "bfloat16",
    types_pb2.DT_COMPLEX64: "complex64",
    types_pb2.DT_UINT64: "uint64",
    types_pb2.DT_QINT8: "qint8",
    types_pb2.DT_FLOAT8_E5M2: "float8_e5m2",
    types_pb2.DT_INT4: "int4",
}


def wrong_names() -> Iterator[Case]:
    for name in ("n", "M", "m ", "../m", "m" * 10_000, "\u2603", "m\0"):
        yield Case(
            f"model {name[:5]!r}", PREDICT, named(name=name), _NOT_FOUND, "Servable not found for request: Latest("
        )
    yield Case("no name", PREDICT, named(name=""), _INVALID, "ModelSpec has no name specified.")
    yield Case("no spec", PREDICT, b"", _INVALID, "Missing ModelSpec")
    for version in (0, 2, -1, 2**63 - 1, -(2**63)):
        words = f"Servable not found for request: Specific(m, {version})"
        yield Case(f"version {version}", PREDICT, named(version=version), _NOT_FOUND, words)
    for label in ("stable", "", "x" * 3000):
        yield Case(
            f"label {label[:5]!r}", PREDICT, named(label=label), _INVALID, "Unrecognized servable version label: "
        )
    for signature in ("nope", "SERVING_DEFAULT", "\u2603"):
        yield Case(
            f"signature {signature!r}",
            PREDICT,
            named(signature_name=signature),
            grpc.StatusCode.FAILED_PRECONDITION,
            f'Serving signature key "{signature}" not found.',
        )
    for aliases in ((), ("x", "y"), ("a", "b"), tuple("abcdefgh")):
        body = predict_request("m", dict.fromkeys(aliases, X)).SerializeToString()
        yield Case(
            f"inputs {aliases}", PREDICT, body, _INVALID, f"input size does not match signature: {len(aliases)}!=1"
        )
    body = predict_request("m", {"y": X}).SerializeToString()
    yield Case("a misnamed input", PREDICT, body, _INVALID, "Signature input alias: x(feed name: ")
    for wanted, words in ((("z",), "output tensor alias not found in signature: z"), (("y", "y"), "duplicate output")):
        body = predict_request("m", {"x": X}, output_filter=wanted).SerializeToString()
        yield Case(f"outputs {wanted}", PREDICT, body, _INVALID, words)
    # The model's own sentence quotes the bytes, which need not be text.
    request = predict_request("m", {"inputs": np.array([b"\xff\xfe no Example"], object)}, "classify_x_to_y")
    words = "Could not parse example input, value: '"
    yield Case("bytes that are no Example", PREDICT, request.SerializeToString(), _INVALID, words)
    # The model is looked for before a tensor is looked at.
    request = predict_request("n", {})
    request.inputs["x"].CopyFrom(tensor(dims=[-1]))
    yield Case("unknown model, bad tensor", PREDICT, request.SerializeToString(), _NOT_FOUND, "Latest(n)")


def wrong_examples() -> Iterator[Case]:
    service = "/tensorflow.serving.PredictionService"
    for kind, signature in (("Classify", "classify_x_to_y"), ("Regress", "regress_x_to_y")):
        for examples, words in (
            ([], "Input is empty."),
            ([example(y=1.0)], "Feature: x (data type: float) is required but could not be found"),
            ([example(x=1)], "Data types don't match. Data type: int64 but expected type: float"),
            ([example(x=[1.0, 2.0])], "Number of float values != expected"),
        ):
            body = examples_request("m", examples, signature, kind.lower()).SerializeToString()
            yield Case(f"{kind}: {words}", f"{service}/{kind}", body, _INVALID, words)
        body = examples_request("m", [example(x=1.0)], "nope", kind.lower()).SerializeToString()
        words = "No signature was found with the name: nope"
        yield Case(f"{kind}: signature", f"{service}/{kind}", body, _INVALID, words)
        body = examples_request("m", [example(x=1.0)], "serving_default", kind.lower()).SerializeToString()
        words = "inputs found in SignatureDef: "
        yield Case(f"{kind}: a predict signature", f"{service}/{kind}", body, _INVALID, words)
    multi = inference_pb2.MultiInferenceRequest()
    yield Case(
        "no tasks", f"{service}/MultiInference", multi.SerializeToString(), _INVALID, "ModelSpec has no name specified."
    )
    task = multi.tasks.add(method_name="tensorflow/serving/predict")
    task.model_spec.name = "m"
    yield Case(
        "a predict task",
        f"{service}/MultiInference",
        multi.SerializeToString(),
        grpc.StatusCode.UNIMPLEMENTED,
        "Unsupported signature method_name: tensorflow/serving/predict",
    )
    for fields, words in (
        ((), "must specify at least one metadata_field"),
        (("x",), "Metadata field x is not supported"),
    ):
        metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
        metadata.model_spec.name = "m"
        yield Case(f"metadata {fields}", f"{service}/GetModelMetadata", metadata.SerializeToString(), _INVALID, words)
    for version, words in (
        (None, "Could not find any versions of model n"),
        (3, "Could not find version 3 of model n"),
    ):
        yield Case(
            f"status {version}",
            "/tensorflow.serving.ModelService/GetModelStatus",
            status_request("n", version).SerializeToString(),
            _NOT_FOUND,
            words,
        )
    for path in (
        "/tensorflow.serving.SessionService/SessionRun",
        "/tensorflow.serving.PredictionService/PredictStreamed",
        "/x/y",
    ):
        yield Case(path, path, b"", grpc.StatusCode.UNIMPLEMENTED, "")


def garbage() -> Iterator[Case]:
    """Bytes that are no message at all. Seeded; what happens to parse as one is left out."""
    dice = random.Random(7)
    whole = predict_request("m", {"x": X}).SerializeToString()
    bodies = [whole[:cut] for cut in range(1, len(whole), 3)]
    bodies += [dice.randbytes(dice.randrange(1, 200)) for _ in range(150)]
    for number, body in enumerate(bodies):
        try:
            predict_pb2.PredictRequest.FromString(body)
        except Exception:  # whatever the parser of the client's protobuf raises
            yield Case(f"garbage {number}", PREDICT, body, grpc.StatusCode.INTERNAL, "Failed to parse the request")


CASES = [*refused_tensors(), *wrong_names(), *wrong_examples(), *garbage()]


def ask(client: Client, case: Case) -> grpc.RpcError | None:
    """The error the server answers with, through a channel that sends the bytes as they are."""
    method = client.unary_unary(case.method, lambda body: body, lambda body: body)
    try:
        method(case.body, timeout=60)
    except grpc.RpcError as error:
        return error
    return None


def rss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


@pytest.mark.proves(
    "rpc SessionService.SessionRun",
    "rpc PredictionService.PredictStreamed",
    "difference: Sizes",
    "flag max_expanded_tensor_bytes",
)
def test_two_hundred_bad_requests_get_the_right_status(server: ServerProcess, client: Client) -> None:
    assert len(CASES) >= 200
    before = rss_bytes(server.process.pid)
    wrong = []
    for case in CASES:
        error = ask(client, case)
        if error is None:
            wrong.append(f"{case.name}: answered")
        elif error.code() is not case.code or case.words not in error.details():
            wrong.append(
                f"{case.name}: {error.code().name} {error.details()[:200]!r}, not {case.code.name} {case.words!r}"
            )
    assert wrong == []
    assert server.process.poll() is None
    assert rss_bytes(server.process.pid) - before < 256 << 20
    answer = client.prediction.Predict(predict_request("m", {"x": X}), timeout=60)
    assert outputs(answer)["y"].tolist() == [2.5, 3.0]


def test_details_are_cut_at_a_kilobyte(client: Client) -> None:
    error = ask(client, Case("", PREDICT, named(name="m" * 5000), _NOT_FOUND, ""))
    assert error is not None
    assert len(error.details()) == 1024 + len("...TRUNCATED")
    assert error.details().endswith("m...TRUNCATED")


def test_a_wrong_shape_is_accepted_as_tensorflow_serving_does(client: Client) -> None:
    for x in (np.float32(1.0), np.ones((1, 2), np.float32), np.ones((0,), np.float32)):
        answer = outputs(client.prediction.Predict(predict_request("m", {"x": x}), timeout=60))
        assert answer["y"].shape == np.shape(x)


@pytest.mark.proves("difference: Sizes", "flag max_inflight_bytes")
def test_what_few_bytes_declare_is_counted_as_in_flight(tmp_path: Path, exported: Exported) -> None:
    """At the default limit of a tensor, a server that may hold 300 MB sheds what would take more, and lives."""
    shutil.copytree(exported(models.half_plus_two), tmp_path / "m" / "1")
    flags = ("--model_name=m", f"--model_base_path={tmp_path}/m", "--max_inflight_bytes=300000000")
    with ServerProcess(*flags) as server, Client(server) as client:
        before = rss_bytes(server.process.pid)
        body = predict_tensor(tensor(dims=[2**28], float_val=[1.0]))
        method = client.unary_unary(PREDICT, lambda sent: sent, lambda answered: answered)
        calls = [method.future(body, timeout=60) for _ in range(4)]
        assert [call.code() for call in calls] == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 4
        assert "--max_inflight_bytes" in calls[0].details()
        assert rss_bytes(server.process.pid) - before < 256 << 20
        answer = client.prediction.Predict(predict_request("m", {"x": X}), timeout=60)
        assert outputs(answer)["y"].tolist() == [2.5, 3.0]
