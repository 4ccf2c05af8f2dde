"""`--ssl_config_file`: the SSLConfig, the files that it names, and following them while the server runs."""

from __future__ import annotations

import logging
import os
import pkgutil
from collections.abc import Callable
from functools import lru_cache

from pyserving import protos
from pyserving.config import parse_text_proto, read_file
from pyserving.errors import FailedPrecondition, InvalidArgument
from pyserving.followed_file import LOOK_SECONDS, FollowedFile
from pyserving.transports.tls import Identity, Pem, Tls, credentials_of
from pyserving.workers import Workers

_log = logging.getLogger(__name__)

_DEFAULT_ROOTS = "gRPC's default roots"
_ROOTS_VARIABLE = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"


def read_identity(path: str) -> Identity:
    """What a text-format SSLConfig says.

    Its values are PEM texts, as TensorFlow Serving's; one that is none is the name of a PEM file, relative to the
    config file's folder. NOT_FOUND, PERMISSION_DENIED and INVALID_ARGUMENT name the file that is at fault.
    """
    config = _parsed(read_file(path), path)
    if isinstance(config, InvalidArgument):
        raise InvalidArgument(config.message)
    key = _pem(config.server_key, f"{path}: server_key", path)
    certificates = _pem(config.server_cert, f"{path}: server_cert", path)
    if not config.client_verify:
        return Identity(key, certificates)
    roots = _pem(config.custom_ca, f"{path}: custom_ca", path) if config.custom_ca else _default_roots()
    return Identity(key, certificates, roots)


@lru_cache(maxsize=1)  # it is read again and again, and what is wrong with it is to be logged once
def _parsed(content: bytes, path: str) -> protos.SSLConfig | InvalidArgument:
    try:
        return parse_text_proto(content, path, protos.SSLConfig, is_secret=True)
    except InvalidArgument as error:
        return error


def _pem(value: str, origin: str, config_path: str) -> Pem:
    if not value.strip():
        raise InvalidArgument(f"{origin} is missing")
    if "-----BEGIN" in value:
        return Pem(value.encode(), origin)
    name = value.strip()
    if "\n" in name or "\0" in name:  # which may be a key that has lost its first line, and is not to be shown
        raise InvalidArgument(f"{origin} is neither a PEM text nor the name of a file")
    path = os.path.join(os.path.dirname(config_path), name)
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


class SslConfigFile(FollowedFile[Identity]):
    """Has new files secure the connections to come."""

    def __init__(
        self,
        path: str,
        tls: Tls,
        reading: Workers,
        on_change: Callable[[bool], None],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """`on_change` is told whether a change could be used."""

        async def renew(identity: Identity) -> None:
            tls.renew(await reading.submit(credentials_of, identity))

        def tell(problem: str) -> None:
            if problem:
                _log.error("Connections go on with the certificates they had: %s", problem)
            else:
                _log.info("New connections are secured with the new certificates of %s", path)
            on_change(not problem)

        super().__init__(
            path,
            tls.credentials.identity,
            read=read_identity,
            take=renew,
            tell=tell,
            reading=reading,
            look_seconds=look_seconds,
        )
