"""gRPC server reflection, v1 and v1alpha: the descriptors of our pool, for grpcurl and its like."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TypeAlias, cast

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError

from pyserving import protos
from pyserving.errors import Code, InvalidArgument
from pyserving.messages import Buffer, CallContext, StreamMethod

# The two versions differ in their package alone, so what is written for one holds for the other.
_Request: TypeAlias = protos.ServerReflectionRequest
_Response: TypeAlias = protos.ServerReflectionResponse


def methods(service_names: Iterable[str]) -> dict[str, StreamMethod]:
    """Both versions' ServerReflectionInfo. `service_names` are the full names of the services that are served."""
    versions = ("grpc.reflection.v1", "grpc.reflection.v1alpha")
    names = sorted({*service_names, *(f"{package}.ServerReflection" for package in versions)})
    return {f"/{package}.ServerReflection/ServerReflectionInfo": _info(package, names) for package in versions}


def _info(package: str, service_names: list[str]) -> StreamMethod:
    request_class = cast("type[_Request]", protos.message_class(f"{package}.ServerReflectionRequest"))
    response_class = cast("type[_Response]", protos.message_class(f"{package}.ServerReflectionResponse"))

    async def server_reflection_info(requests: AsyncIterator[Buffer], call: CallContext) -> AsyncIterator[bytes]:
        sent: set[str] = set()
        async for body in requests:
            try:
                request = request_class.FromString(bytes(body))
            except DecodeError:
                raise InvalidArgument("could not parse request") from None
            response = response_class(valid_host=request.host, original_request=request)
            _answer(request, response, service_names, sent)
            yield response.SerializeToString()

    return server_reflection_info


def _answer(request: _Request, response: _Response, service_names: list[str], sent: set[str]) -> None:
    try:
        match request.WhichOneof("message_request"):
            case "list_services":
                for name in service_names:
                    response.list_services_response.service.add(name=name)
            case "all_extension_numbers_of_type":
                _fill_extension_numbers(response, request.all_extension_numbers_of_type)
            case None:
                _fill_error(response, Code.INVALID_ARGUMENT, "nothing was asked")
            case _:
                files = _with_dependencies(_file(request), sent)
                response.file_descriptor_response.file_descriptor_proto.extend(files)
    except KeyError:
        _fill_error(response, Code.NOT_FOUND, "not found")


def _file(request: _Request) -> FileDescriptor:
    """The file that a request for a file means; KeyError when there is none."""
    match request.WhichOneof("message_request"):
        case "file_by_filename":
            return protos.pool.FindFileByName(request.file_by_filename)
        case "file_containing_symbol":
            return _file_of_symbol(request.file_containing_symbol)
        case _:
            wanted = request.file_containing_extension
            extended = protos.pool.FindMessageTypeByName(wanted.containing_type)
            extension = protos.pool.FindExtensionByNumber(extended, wanted.extension_number)
            return cast("FileDescriptor", extension.file)  # type: ignore[attr-defined]  # every descriptor has it


def _file_of_symbol(symbol: str) -> FileDescriptor:
    try:
        return protos.pool.FindFileContainingSymbol(symbol)
    except KeyError:  # a method, which the pool does not count among the symbols
        service, _, method = symbol.rpartition(".")
        found = protos.pool.FindServiceByName(service)
        if method not in found.methods_by_name:
            raise
        return found.file


def _with_dependencies(asked: FileDescriptor, sent: set[str]) -> Iterator[bytes]:
    """The file, asked for once more or not, and those that it needs and the stream has not carried yet."""
    yield asked.serialized_pb
    sent.add(asked.name)
    missing = list(asked.dependencies)
    while missing:
        file = missing.pop()
        if file.name not in sent:
            sent.add(file.name)
            yield file.serialized_pb
            missing += file.dependencies


def _fill_extension_numbers(response: _Response, type_name: str) -> None:
    extensions = protos.pool.FindAllExtensions(protos.pool.FindMessageTypeByName(type_name))
    answer = response.all_extension_numbers_response
    answer.base_type_name = type_name
    answer.extension_number.extend(sorted(extension.number for extension in extensions))


def _fill_error(response: _Response, code: Code, message: str) -> None:
    response.error_response.error_code = code
    response.error_response.error_message = message
