"""`--ssl_config_file`: the SSLConfig, the files that it names, and following them while the server runs."""

from __future__ import annotations

import asyncio
import logging
import os
import pkgutil
from collections.abc import Callable
from types import TracebackType

from pyserving import protos
from pyserving.config import read_file, read_text_proto
from pyserving.errors import FailedPrecondition, InvalidArgument, ServingError
from pyserving.transports.tls import Identity, Pem, Tls, credentials_of
from pyserving.workers import Workers

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0
_DEFAULT_ROOTS = "gRPC's default roots"
_ROOTS_VARIABLE = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"


def read_identity(path: str) -> Identity:
    """What a text-format SSLConfig says.

    Its values are PEM texts, as TensorFlow Serving's; one that is none is the name of a PEM file, relative to the
    config file's folder. NOT_FOUND, PERMISSION_DENIED and INVALID_ARGUMENT name the file that is at fault.
    """
    config = read_text_proto(path, protos.SSLConfig)
    key = _pem(config.server_key, f"{path}: server_key", path)
    certificates = _pem(config.server_cert, f"{path}: server_cert", path)
    if not config.client_verify:
        return Identity(key, certificates)
    roots = _pem(config.custom_ca, f"{path}: custom_ca", path) if config.custom_ca else _default_roots()
    return Identity(key, certificates, roots)


def _pem(value: str, origin: str, config_path: str) -> Pem:
    if not value.strip():
        raise InvalidArgument(f"{origin} is missing")
    if "-----BEGIN" in value:
        return Pem(value.encode(), origin)
    path = os.path.join(os.path.dirname(config_path), value.strip())
    return Pem(read_file(path), path)


def _default_roots() -> Pem:
    """gRPC's own, which are those of public authorities."""
    if path := os.environ.get(_ROOTS_VARIABLE):
        return Pem(read_file(path), f"{_DEFAULT_ROOTS} ({path})")
    roots = pkgutil.get_data("grpc", "_cython/_credentials/roots.pem")
    if roots is None:
        raise FailedPrecondition(
            f"client_verify needs custom_ca: this gRPC brings no roots, nor does {_ROOTS_VARIABLE}"
        )
    return Pem(roots, _DEFAULT_ROOTS)


def open_tls(path: str) -> Tls:
    """What secures the ports from the start; the errors of `read_identity`, and those of key and certificates."""
    identity = read_identity(path)
    if identity.client_roots is not None and identity.client_roots.origin.startswith(_DEFAULT_ROOTS):
        _log.warning("client_verify without custom_ca: any certificate that %s vouch for is let in", _DEFAULT_ROOTS)
    return Tls(credentials_of(identity))


class SslConfigFile:
    """Looks at the files every few seconds, and has new ones secure the connections to come.

    Files are often written one after another: a change counts when two looks have seen the same. One that cannot be
    used is logged once, and everything stays as it was.
    """

    def __init__(
        self,
        path: str,
        tls: Tls,
        reading: Workers,
        on_change: Callable[[bool], None],
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        """`on_change` is told whether a change could be used."""
        self._path = path
        self._tls = tls
        self._reading = reading
        self._on_change = on_change
        self._look_seconds = look_seconds
        self._seen: Identity | str = tls.credentials.identity
        """Or what was wrong."""
        self._settled: Identity | str = self._seen
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> SslConfigFile:
        self._looking = asyncio.create_task(self._look_again_and_again())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def look(self) -> None:
        before, found = self._seen, await self._read()
        self._seen = found
        if found != before or found == self._settled:
            return
        self._settled = found
        problem = found if isinstance(found, str) else await self._renew(found)
        if problem:
            _log.error("Connections go on with the certificates they had: %s", problem)
        else:
            _log.info("New connections are secured with the new certificates of %s", self._path)
        self._on_change(not problem)

    async def _read(self) -> Identity | str:
        try:
            return await self._reading.submit(read_identity, self._path)
        except ServingError as error:
            return error.message

    async def _renew(self, identity: Identity) -> str:
        """What was wrong; nothing when all is well."""
        try:
            self._tls.renew(await self._reading.submit(credentials_of, identity))
        except ServingError as error:
            return error.message
        return ""

    async def _look_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(self._look_seconds)
            try:
                await self.look()
            except Exception:  # one look gone wrong must not be the last one
                _log.exception("Following %s failed", self._path)
