"""Certificates made for a test by the `openssl` command: an authority, and whom it vouches for."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyserving.transports.tls import Identity, Pem

_CONFIG = "[req]\ndistinguished_name = dn\n[dn]\n"
_ELLIPTIC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


@dataclass(frozen=True, slots=True)
class Certificate:
    name: str
    key_path: Path
    path: Path

    @property
    def key(self) -> bytes:
        return self.key_path.read_bytes()

    @property
    def pem(self) -> bytes:
        return self.path.read_bytes()


class Authority:
    """Signs certificates for `localhost` and 127.0.0.1, each with the name it is asked for."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        if shutil.which("openssl") is None:
            pytest.skip("needs the openssl command")
        self._folder = folder
        (folder / "openssl.cnf").write_text(_CONFIG)
        self.certificate = self._made(
            name,
            *("-addext", "basicConstraints=critical,CA:TRUE"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-addext", "subjectKeyIdentifier=hash"),
        )
        self.path = self.certificate.path

    @property
    def pem(self) -> bytes:
        return self.certificate.pem

    def issue(self, name: str, *, key: tuple[str, ...] = _ELLIPTIC) -> Certificate:
        authority = self.certificate
        return self._made(
            name,
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-addext", "authorityKeyIdentifier=keyid"),
            *("-CA", str(authority.path), "-CAkey", str(authority.key_path)),
            key=key,
        )

    def _made(self, name: str, *more: str, key: tuple[str, ...] = _ELLIPTIC) -> Certificate:
        made = Certificate(name, self._folder / f"{name}.key", self._folder / f"{name}.crt")
        openssl(
            *("req", "-x509", "-config", self._folder / "openssl.cnf", "-days", "2", "-subj", f"/CN={name}"),
            *("-nodes", "-keyout", made.key_path, "-out", made.path, *key, *more),
        )
        return made


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def identity(server: Certificate, clients: Authority | None = None) -> Identity:
    roots = Pem(clients.pem, str(clients.path)) if clients is not None else None
    return Identity(Pem(server.key, str(server.key_path)), Pem(server.pem, str(server.path)), roots)


def client_context(
    authority: Authority, certificate: Certificate | None = None, protocols: tuple[str, ...] = ("h2", "http/1.1")
) -> ssl.SSLContext:
    """What a client of Python's own `ssl` secures its connection with."""
    context = ssl.create_default_context(cafile=authority.path)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if certificate is not None:
        context.load_cert_chain(certificate.path, certificate.key_path)
    return context
