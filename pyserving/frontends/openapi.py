"""/openapi.json: what can be asked of the models that serve now, as an OpenAPI 3.1 document."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeAlias
from urllib.parse import quote

from pyserving import __version__
from pyserving.errors import InvalidArgument
from pyserving.frontends.rest.model_list import Models, available_signatures
from pyserving.inference import classify, regress
from pyserving.messages import HttpHandler, HttpRequest, HttpResponse
from pyserving.signature import DEFAULT_SIGNATURE_NAME, DataType, SignatureDef, TensorInfo

Schema: TypeAlias = dict[str, Any]

_PATH = "/openapi.json"
_INT32: Schema = {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
_NUMBER: Schema = {"type": "number"}
_BYTES: Schema = {
    "type": "object",
    "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
    "required": ["b64"],
    "additionalProperties": False,
}
_LEAVES: Mapping[DataType, Schema] = {
    DataType.DT_FLOAT: _NUMBER,
    DataType.DT_DOUBLE: _NUMBER,
    DataType.DT_INT8: _INT32,
    DataType.DT_INT16: _INT32,
    DataType.DT_INT32: _INT32,
    DataType.DT_UINT8: _INT32,
    DataType.DT_UINT32: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    DataType.DT_INT64: {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    DataType.DT_UINT64: {"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
    DataType.DT_BOOL: {"type": "boolean"},
    DataType.DT_STRING: {"oneOf": [{"type": "string"}, _BYTES]},
}
_ANYTHING: Schema = {}
_ERROR: Schema = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
_ERRORS: Mapping[str, str] = {
    "400": "The request is wrong, or the model refuses it",
    "404": "The model or version does not serve",
    "429": "Too much is in flight",
    "500": "The model failed",
    "501": "There is no JSON for a type",
    "503": "The server cannot take the request now",
    "504": "The run took too long",
}
_FEATURE: Schema = {"oneOf": [_NUMBER, {"type": "string"}, _BYTES, {"type": "array"}]}
_EXAMPLES: Schema = {
    "type": "object",
    "properties": {
        "signature_name": {"type": "string"},
        "context": {"type": "object", "additionalProperties": _FEATURE},
        "examples": {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": _FEATURE}},
    },
    "required": ["examples"],
}


def handler(models: Models) -> HttpHandler:
    """Serves the document, made anew each time."""

    def page(request: HttpRequest) -> HttpResponse | None:
        if request.path != _PATH or request.method not in ("GET", "HEAD"):
            return None
        return HttpResponse(200, json.dumps(document(models), indent=1).encode() + b"\n")

    return page


def document(models: Models) -> dict[str, Any]:
    """Paths for each configured model; what its newest serving version offers tells what may be posted."""
    paths: dict[str, Any] = {"/v1/models": {"get": _get("All models: versions, labels, signatures, where they run")}}
    for name in models.model_names:
        paths |= _paths_of(name, next((found for _, found in available_signatures(models, name)), {}))
    paths["/healthz"] = {"get": _operation("Whether the process lives", {"200": _said("It does")})}
    paths["/readyz"] = {"get": _operation("Whether every model serves", _READINESS)}
    info = {"title": "pyserving", "version": __version__, "description": "The models that serve now."}
    return {"openapi": "3.1.0", "info": info, "paths": paths}


def _paths_of(name: str, signatures: Mapping[str, SignatureDef]) -> dict[str, Any]:
    base = f"/v1/models/{quote(name, safe='')}"
    paths: dict[str, Any] = {
        base: {"get": _get("The states of its versions")},
        f"{base}/metadata": {"get": _get("Its signatures, as the model has them")},
    }
    for verb, operation in _verbs(signatures):
        paths[f"{base}:{verb}"] = {"post": operation}
        paths[f"{base}/versions/{{version}}:{verb}"] = {"post": operation, "parameters": [_VERSION]}
    return paths


def _verbs(signatures: Mapping[str, SignatureDef]) -> Iterator[tuple[str, dict[str, Any]]]:
    bodies = [_predict_body(name, signature) for name, signature in signatures.items() if signature.inputs]
    if bodies:
        yield "predict", _post("Run a signature", {"anyOf": bodies}, {"type": "object"})
    if _any(signatures, classify.check_signature):
        yield "classify", _post("Label examples", _EXAMPLES, _results({"type": "array", "items": {"type": "array"}}))
    if _any(signatures, regress.check_signature):
        yield "regress", _post("A value for each example", _EXAMPLES, _results(_NUMBER))


def _any(signatures: Mapping[str, SignatureDef], check: Callable[[SignatureDef], None]) -> bool:
    for signature in signatures.values():
        with suppress(InvalidArgument):
            check(signature)
            return True
    return False


def _predict_body(name: str, signature: SignatureDef) -> Schema:
    rows = {alias: _tensor(info, skip=1) for alias, info in signature.inputs.items()}
    whole = {alias: _tensor(info, skip=0) for alias, info in signature.inputs.items()}
    named = {"signature_name": {"const": name}}
    required = [] if name == DEFAULT_SIGNATURE_NAME else ["signature_name"]
    return {
        "oneOf": [
            {
                "type": "object",
                "properties": named | {"instances": {"type": "array", "minItems": 1, "items": _values(rows)}},
                "required": [*required, "instances"],
            },
            {
                "type": "object",
                "properties": named | {"inputs": _values(whole)},
                "required": [*required, "inputs"],
            },
        ]
    }


def _values(schemas: Mapping[str, Schema]) -> Schema:
    """One input may go without its name."""
    named = {
        "type": "object",
        "properties": dict(schemas),
        "required": sorted(schemas),
        "additionalProperties": False,
    }
    return {"anyOf": [*schemas.values(), named]} if len(schemas) == 1 else named


def _tensor(info: TensorInfo, *, skip: int) -> Schema:
    """Nested lists of its dtype, but for the first `skip` dimensions."""
    if info.shape is None or len(info.shape) < skip:
        return _ANYTHING
    schema = _LEAVES.get(info.dtype, {"not": {}})
    for size in reversed(info.shape[skip:]):
        schema = {"type": "array", "items": schema}
        if size >= 0:
            schema |= {"minItems": size, "maxItems": size}
    return schema


_VERSION: Schema = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
}


def _json(description: str, schema: Schema) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _said(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}


_READINESS = {
    "200": _json("All do", {"type": "object"}),
    "503": _json("Which do not, and why", {"type": "object"}),
}


def _results(items: Schema) -> Schema:
    results = {"type": "array", "items": items}
    return {"type": "object", "properties": {"results": results}, "required": ["results"]}


def _operation(summary: str, responses: Mapping[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "responses": dict(responses)}


def _with_errors(answer: Schema) -> dict[str, Any]:
    errors = {status: _json(description, _ERROR) for status, description in _ERRORS.items()}
    return {"200": _json("The answer", answer)} | errors


def _get(summary: str) -> dict[str, Any]:
    return _operation(summary, _with_errors({"type": "object"}))


def _post(summary: str, body: Schema, answer: Schema) -> dict[str, Any]:
    request = {"required": True, "content": {"application/json": {"schema": body}}}
    return _operation(summary, _with_errors(answer)) | {"requestBody": request}
