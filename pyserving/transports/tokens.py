"""Who may ask: requests show a bearer token or an API key, which the server knows by its hash alone."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pyserving.errors import Unauthenticated

_MISSING = "A token is needed: authorization: Bearer TOKEN, or x-api-key: TOKEN"
_UNKNOWN = "The token is not known"
_HEALTH = "/grpc.health.v1.Health/"


@dataclass(frozen=True, slots=True)
class Token:
    """What lets requests in."""

    digest: bytes
    name: str = ""
    """For people; empty where it has none."""


def digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class TokenCheck:
    """An `Authenticate`: lets in what shows one of the tokens, be it as a bearer token or as an API key."""

    def __init__(
        self,
        tokens: tuple[Token, ...],
        *,
        exempt: Sequence[Callable[[str, str], bool]] = (),
        never_exempt: Collection[str] = (),
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        """What needs no token is what one of `exempt` says so of, given HTTP method and path, but for the paths that
        are `never_exempt`, and for what brings a body over HTTP/1, whose memory others would want."""
        self.tokens = tokens
        """May be replaced; whoever keeps what was let in has to be told."""
        self._exempt = tuple(exempt)
        self._never_exempt = frozenset(never_exempt)
        self._on_refused = on_refused

    def __call__(self, method: str, path: str, headers: Mapping[str, str | bytes]) -> None:
        is_exempt = path not in self._never_exempt and any(exempts(method, path) for exempts in self._exempt)
        if is_exempt and not (method != "POST" and _has_body(headers)):
            return
        shown = list(_shown(headers))
        if sum(map(self._knows, shown)) == 0:
            self._on_refused()
            raise Unauthenticated(_UNKNOWN if shown else _MISSING)

    def _knows(self, token: str) -> bool:
        """Takes as long for each: all are compared, and each as a whole."""
        digest = digest_of(token)
        return sum(hmac.compare_digest(digest, known.digest) for known in self.tokens) > 0


def _has_body(headers: Mapping[str, str | bytes]) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _shown(headers: Mapping[str, str | bytes]) -> Iterator[str]:
    authorization, key = headers.get("authorization"), headers.get("x-api-key")
    if isinstance(authorization, str):
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer":
            yield token.strip()
    if isinstance(key, str):
        yield key


def asks_for_health(method: str, path: str) -> bool:
    """By gRPC, or as one of the pages. Paths are compared as handlers compare them, to the letter."""
    if method in ("GET", "HEAD"):
        return path in ("/healthz", "/readyz") or path.startswith("/readyz/")
    return path.startswith(_HEALTH)


def is_preflight(method: str, path: str) -> bool:
    """A browser's question whether a page may ask the REST API, to which it adds no headers of the page's."""
    return method == "OPTIONS" and path[:4].lower() == "/v1/"
