"""Which model a URL means, and what is wanted of it. As http_rest_api_handler.cc reads URLs."""

from __future__ import annotations

import re
from enum import Enum, auto
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from pyserving.types import ModelSpec

# Fixed words in any case. What follows the path, `?query` and `#fragment`, is matched with it: TensorFlow Serving does
# not cut it off, so that `m?x=1` is a model's name.
_MODEL = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_INFERENCE = re.compile(rf"/v1/models/(?P<name>[^/:]+){_MODEL}:(?P<verb>classify|regress|predict)", re.IGNORECASE)
_STATE = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_MODEL}(?:/(?P<verb>metadata))?", re.IGNORECASE)
_LIST = re.compile(r"/v1/models", re.IGNORECASE)
_MAX_VERSION = 2**63 - 1
_MAX_VERSION_DIGITS = 19
_MAX_KEPT_LENGTH = 512


class Endpoint(Enum):
    """What a request wants."""

    PREDICT = auto()
    CLASSIFY = auto()
    REGRESS = auto()
    STATUS = auto()
    METADATA = auto()
    MODELS = auto()
    """The list of all models."""
    NAMELESS = auto()
    """Something of a model whose name is left out."""
    VERSION_TOO_LARGE = auto()
    MALFORMED = auto()


_VERBS = {"classify": Endpoint.CLASSIFY, "regress": Endpoint.REGRESS, "predict": Endpoint.PREDICT}


class Route(NamedTuple):
    endpoint: Endpoint
    spec: ModelSpec
    """The name is decoded; bytes in it that are no UTF-8 are surrogate escapes."""
    label: str
    """The model's name as metrics show it: always printable as UTF-8."""


def route(method: str, target: str) -> Route:
    """For a target that begins with `/v1/`, in whatever case. Those that keep coming are read once."""
    return _kept(method, target) if len(target) <= _MAX_KEPT_LENGTH else _read(method, target)


def _read(method: str, target: str) -> Route:
    match = _matched(method, target)
    if match is None:
        return Route(Endpoint.MALFORMED, ModelSpec(""), "")
    name = _decoded(match["name"] or "")
    label = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    digits = (match["version"] or "").lstrip("0") or "0"
    if len(digits) > _MAX_VERSION_DIGITS or int(digits) > _MAX_VERSION:
        return Route(Endpoint.VERSION_TOO_LARGE, ModelSpec(name), label)
    version = int(digits) if match["version"] else None
    version_label = _decoded(match["label"]) if match["label"] else None
    return Route(_endpoint(method, target, match), ModelSpec(name, version, version_label), label)


_kept = lru_cache(maxsize=1024)(_read)


def _matched(method: str, target: str) -> re.Match[str] | None:
    if method == "POST":
        return _INFERENCE.fullmatch(target)
    return _STATE.fullmatch(target) if method == "GET" else None


def _endpoint(method: str, target: str, match: re.Match[str]) -> Endpoint:
    if method == "POST":
        return _VERBS.get(match["verb"], Endpoint.MALFORMED)  # in other letters it is matched, and then not served
    if not match["name"]:
        return Endpoint.MODELS if _LIST.fullmatch(target) else Endpoint.NAMELESS
    return Endpoint.METADATA if match["verb"] == "metadata" else Endpoint.STATUS  # in other letters: the status


def _decoded(text: str) -> str:
    return unquote(text, errors="surrogateescape")
