from __future__ import annotations

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from pyserving import protos
from pyserving.errors import Code, InvalidArgument
from pyserving.frontends import reflection
from pyserving.messages import CallContext
from pyserving.transports.admission import Admission
from pyserving.transports.grpcio_server import GrpcioServer

SERVICES = ["tensorflow.serving.PredictionService", "tensorflow.serving.ModelService", "grpc.health.v1.Health"]
VERSIONS = ["grpc.reflection.v1", "grpc.reflection.v1alpha"]


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


async def ask(version, *questions):
    """Answers to `questions`, each the fields of a request, on one stream."""
    request_class = protos.message_class(f"{version}.ServerReflectionRequest")
    response_class = protos.message_class(f"{version}.ServerReflectionResponse")

    async def requests():
        for question in questions:
            yield request_class(**question).SerializeToString()

    method = reflection.methods(SERVICES)[f"/{version}.ServerReflection/ServerReflectionInfo"]
    return [response_class.FromString(body) async for body in method(requests(), CallContext())]


def files(response):
    return [FileDescriptorProto.FromString(body) for body in response.file_descriptor_response.file_descriptor_proto]


async def test_it_lists_the_services_and_itself(version):
    (response,) = await ask(version, {"list_services": "*", "host": "h"})
    names = [service.name for service in response.list_services_response.service]
    assert names == sorted([*SERVICES, *(f"{package}.ServerReflection" for package in VERSIONS)])
    assert response.valid_host == "h"
    assert response.original_request.list_services == "*"


async def test_it_gives_a_file_by_its_name_with_all_it_needs(version):
    (response,) = await ask(version, {"file_by_filename": "tensorflow_serving/apis/predict.proto"})
    given = files(response)
    assert given[0].name == "tensorflow_serving/apis/predict.proto"
    names = [file.name for file in given]
    assert len(names) == len(set(names))
    assert {need for file in given for need in file.dependency} <= set(names)


@pytest.mark.parametrize(
    ("symbol", "file"),
    [
        ("tensorflow.serving.PredictionService", "tensorflow_serving/apis/prediction_service.proto"),
        ("tensorflow.serving.PredictionService.Predict", "tensorflow_serving/apis/prediction_service.proto"),
        ("tensorflow.serving.PredictRequest", "tensorflow_serving/apis/predict.proto"),
        ("tensorflow.DataType", "tensorflow/core/framework/types.proto"),
    ],
)
async def test_it_finds_the_file_of_a_symbol(version, symbol, file):
    (response,) = await ask(version, {"file_containing_symbol": symbol})
    assert files(response)[0].name == file


async def test_it_sends_a_needed_file_once_in_a_stream_and_the_asked_one_always(version):
    predict = {"file_by_filename": "tensorflow_serving/apis/predict.proto"}
    classification = {"file_by_filename": "tensorflow_serving/apis/classification.proto"}
    first, second, third = await ask(version, predict, classification, predict)
    names = [file.name for file in files(first)]
    assert "tensorflow_serving/apis/model.proto" in names
    assert "tensorflow_serving/apis/model.proto" not in [file.name for file in files(second)]
    assert [file.name for file in files(third)] == ["tensorflow_serving/apis/predict.proto"]


@pytest.mark.parametrize(
    "question",
    [
        {"file_by_filename": "no/such.proto"},
        {"file_containing_symbol": "no.such.Symbol"},
        {"file_containing_symbol": "tensorflow.serving.PredictionService.NoSuchMethod"},
        {"file_containing_symbol": ""},
        {"file_containing_extension": {"containing_type": "no.such.Type", "extension_number": 1}},
        {"file_containing_extension": {"containing_type": "tensorflow.TensorProto", "extension_number": 1}},
        {"all_extension_numbers_of_type": "no.such.Type"},
    ],
)
async def test_it_says_not_found_and_goes_on(version, question):
    first, second = await ask(version, question, {"list_services": ""})
    assert first.error_response.error_code == Code.NOT_FOUND
    assert second.HasField("list_services_response")


async def test_it_gives_the_extension_numbers_of_a_type(version):
    (response,) = await ask(version, {"all_extension_numbers_of_type": "tensorflow.TensorProto"})
    assert response.all_extension_numbers_response.base_type_name == "tensorflow.TensorProto"
    assert list(response.all_extension_numbers_response.extension_number) == []


async def test_it_says_so_when_nothing_is_asked(version):
    (response,) = await ask(version, {})
    assert response.error_response.error_code == Code.INVALID_ARGUMENT


async def test_it_refuses_bytes_that_are_no_request(version):
    async def rubbish():
        yield b"\xff"

    method = reflection.methods(SERVICES)[f"/{version}.ServerReflection/ServerReflectionInfo"]
    with pytest.raises(InvalidArgument):
        await anext(method(rubbish(), CallContext()))


@pytest.mark.proves(
    "rpc grpc.reflection.v1alpha.ServerReflection.ServerReflectionInfo",
    "rpc grpc.reflection.v1.ServerReflection.ServerReflectionInfo",
)
async def test_a_client_can_rebuild_every_service_from_it(version):
    """As grpcurl does: list, ask for each service's file, fetch whatever is still missing, and describe."""
    request_class = protos.message_class(f"{version}.ServerReflectionRequest")
    response_class = protos.message_class(f"{version}.ServerReflectionResponse")
    async with (
        GrpcioServer({}, reflection.methods(SERVICES), addresses=["127.0.0.1:0"], admission=Admission(9, 9)) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        stream = channel.stream_stream(f"/{version}.ServerReflection/ServerReflectionInfo")()

        async def ask(**question):
            await stream.write(request_class(**question).SerializeToString())
            return response_class.FromString(await stream.read())

        listed = (await ask(list_services="*")).list_services_response.service
        known = {}
        for service in listed:
            for file in files(await ask(file_containing_symbol=service.name)):
                known[file.name] = file
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
    pool = DescriptorPool()

    def add(name):
        file = known.pop(name, None)
        if file is not None:
            for need in file.dependency:
                add(need)
            pool.Add(file)

    for name in list(known):
        add(name)
    for service in listed:
        theirs, ours = pool.FindServiceByName(service.name), protos.pool.FindServiceByName(service.name)
        assert {m: d.input_type.full_name for m, d in theirs.methods_by_name.items()} == {
            m: d.input_type.full_name for m, d in ours.methods_by_name.items()
        }
