"""What `pyserving bench` sends: a sample of what the signature wants, given inputs, or requests of a log."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from http.client import HTTPException
from itertools import chain
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import HTTPSHandler, ProxyHandler, build_opener
from urllib.request import Request as HttpRequest

from google.protobuf import json_format

from pyserving import protos
from pyserving.client.arrays import as_array
from pyserving.codec import model_spec, predict_request, signature_def
from pyserving.commands import connection
from pyserving.commands.predict import inputs_of, json_of
from pyserving.commands.programs import rest
from pyserving.commands.sample import SampleRequest, sample_request
from pyserving.commands.senders import Request, host_and_port, tls_context
from pyserving.errors import Code, InvalidArgument, Unavailable, error_for
from pyserving.request_log import reader
from pyserving.signature import DEFAULT_SIGNATURE_NAME, SignatureDef
from pyserving.types import ModelSpec

_SERVICE = "/tensorflow.serving.PredictionService/"


def logged_requests(arguments: argparse.Namespace) -> list[Request]:
    """All of the logs that ask this model, as they were. InvalidArgument when there is none."""
    calls = chain.from_iterable(reader.calls(file, may_be_cut=True) for file in arguments.log)
    requests = [
        Request(call.path, call.request.SerializeToString())
        for call in calls
        if all(spec.name == arguments.model for spec in call.model_specs)
    ]
    if not requests:
        raise InvalidArgument(f"no log holds a request to the model {arguments.model}")
    return requests


def grpc_request(arguments: argparse.Namespace) -> Request:
    """One request, made for the signature that the server tells of."""
    spec = ModelSpec(arguments.model, arguments.version, arguments.label, arguments.signature)
    with connection.client(arguments) as client:
        found = client.metadata(spec.name, version=spec.version, label=spec.version_label).signatures
    signature = _chosen(found, arguments)
    if arguments.inputs is not None:
        given = inputs_of(arguments.inputs)
        types = {alias: info.dtype for alias, info in signature.inputs.items()}
        arrays = {alias: as_array(value, types.get(alias)) for alias, value in given.items()}
        return Request(_SERVICE + "Predict", predict_request.encode(spec, arrays))
    sample = _sample(arguments, signature)
    if sample.method == "Predict":
        arrays = {alias: tensor.array() for alias, tensor in sample.tensors.items()}
        return Request(_SERVICE + "Predict", predict_request.encode(spec, arrays))
    message = sample.message()
    model_spec.put(spec, message.model_spec)
    return Request(_SERVICE + sample.method, message.SerializeToString())


def rest_request(arguments: argparse.Namespace) -> Request:
    """The same for the REST API."""
    path = f"/v1/models/{quote(arguments.model, safe='')}"
    if arguments.version is not None:
        path += f"/versions/{arguments.version}"
    elif arguments.label is not None:
        path += f"/labels/{quote(arguments.label, safe='')}"
    signature = _chosen(_rest_signatures(arguments, path), arguments)
    body: dict[str, Any] = {"signature_name": arguments.signature or DEFAULT_SIGNATURE_NAME}
    if arguments.inputs is not None:
        return Request(f"{path}:predict", json.dumps({**body, "inputs": json_of(arguments.inputs)}).encode())
    sample = _sample(arguments, signature)
    values = {alias: tensor.values() for alias, tensor in rest.tensors(sample).items()}
    body |= {"inputs": values} if sample.method == "Predict" else {"examples": [values]}
    return Request(f"{path}:{sample.method.lower()}", json.dumps(body).encode())


def _chosen(signatures: Mapping[str, SignatureDef], arguments: argparse.Namespace) -> SignatureDef:
    name = arguments.signature or DEFAULT_SIGNATURE_NAME
    if name not in signatures:
        known = ", ".join(sorted(signatures)) or "none"
        raise InvalidArgument(f"Model {arguments.model} has no signature {name}; it has {known}")
    return signatures[name]


def _sample(arguments: argparse.Namespace, signature: SignatureDef) -> SampleRequest:
    return sample_request(arguments.model, arguments.signature, signature, {})


_CODES = {401: Code.UNAUTHENTICATED, 404: Code.NOT_FOUND, 503: Code.UNAVAILABLE}
"""Of what a server answers whose metadata cannot be had."""


def _rest_signatures(arguments: argparse.Namespace, path: str) -> Mapping[str, SignatureDef]:
    host_and_port(arguments.target)
    tls = connection.tls(arguments)
    url = f"http{'s' if tls else ''}://{arguments.target}{path}/metadata"
    request = HttpRequest(url, headers=connection.metadata(arguments))
    # As the requests that are measured later: directly, whatever the environment says of proxies.
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=tls_context(tls) if tls else None))
    try:
        with opener.open(request, timeout=arguments.timeout) as response:
            found = json.load(response)["metadata"]["signature_def"]
        signatures = json_format.ParseDict(found, protos.SignatureDefMap(), descriptor_pool=protos.pool)
    except HTTPError as error:
        sentence = f"{url}: {error.code} {error.reason}: {error.read().decode(errors='replace')}"
        raise error_for(_CODES.get(error.code, Code.UNKNOWN), sentence) from None
    except URLError as error:
        raise Unavailable(f"{url}: {error.reason}") from None
    except (HTTPException, ValueError, KeyError, TypeError, json_format.ParseError) as error:
        raise InvalidArgument(f"{url} does not answer as the REST API does: {error or type(error).__name__}") from None
    return {name: signature_def.decode(proto) for name, proto in signatures.signature_def.items()}
