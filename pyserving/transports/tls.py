"""What secures a port: the server's key and certificates, and whether clients must show one of their own.

OpenSSL judges the PEM texts for every transport, so that all of them refuse the same with the same words.
"""

from __future__ import annotations

import os
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pyserving.errors import InvalidArgument
from pyserving.transports.addresses import cannot_listen

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: those that gRPC offers; HTTP/2 forbids most others (RFC 9113, Appendix A)."""
_MISMATCHES = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}
_REFUSALS = {"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"}


@dataclass(frozen=True, slots=True)
class Pem:
    """A PEM text, and where it came from, for whoever has to mend it."""

    text: bytes = field(repr=False)
    origin: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the server is, and whom it lets in."""

    key: Pem
    certificates: Pem
    """The server's own first, then those that lead to its root."""
    client_roots: Pem | None = None
    """Clients must show a certificate that one of these vouches for; None: they are not asked for one."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """An identity that was found to be sound, ready for connections."""

    identity: Identity
    h2: ssl.SSLContext
    http1: ssl.SSLContext


class Tls:
    """What secures the connections to come; those that stand keep what they have."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials

    def renew(self, credentials: Credentials) -> None:
        """InvalidArgument for a change that ports which are open cannot make."""
        if (credentials.identity.client_roots is None) != (self.credentials.identity.client_roots is None):
            raise InvalidArgument("a change of client_verify takes a restart")  # gRPC fixes it with the port
        self.credentials = credentials


def credentials_of(identity: Identity) -> Credentials:
    """InvalidArgument, as TensorFlow Serving's, with where and why, when they cannot be used. Uses the disk."""
    return Credentials(identity, _context(identity, "h2"), _context(identity, "http/1.1"))


def _context(identity: Identity, protocol: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols([protocol])
    if identity.client_roots is not None:
        _load_certificates(context, identity.client_roots)
        context.verify_mode = ssl.CERT_REQUIRED
    _load_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), identity.certificates)  # or whose fault is it?
    _load_key(context, identity)
    return context


def _load_certificates(context: ssl.SSLContext, pem: Pem) -> None:
    """As roots."""
    with _in_a_file(pem) as path:
        try:
            context.load_verify_locations(path)
        except ssl.SSLError as error:
            raise cannot_listen(f"{pem.origin}: not certificates in PEM form{_detail(error)}") from None


def _load_key(context: ssl.SSLContext, identity: Identity) -> None:
    key, certificates = identity.key.origin, identity.certificates.origin

    def no_passphrase() -> str:  # or OpenSSL would ask at the terminal
        raise cannot_listen(f"{key}: the key is protected by a passphrase, and there is nobody to ask for it")

    with _in_a_file(identity.certificates) as certificates_path, _in_a_file(identity.key) as key_path:
        try:
            context.load_cert_chain(certificates_path, key_path, no_passphrase)
        except ssl.SSLError as error:
            if error.reason in _MISMATCHES:
                raise cannot_listen(
                    f"{key}: the key does not belong to the first certificate of {certificates}"
                ) from None
            if error.reason in _REFUSALS:
                raise cannot_listen(
                    f"{certificates}: OpenSSL does not accept the certificate{_detail(error)}"
                ) from None
            raise cannot_listen(f"{key}: not a private key in PEM form{_detail(error)}") from None


def _detail(error: ssl.SSLError) -> str:
    return f" ({error.reason.replace('_', ' ').lower()})" if error.reason else ""


@contextmanager
def _in_a_file(pem: Pem) -> Iterator[str]:
    """OpenSSL reads keys from files only. The file is in memory where the system has that, as the disk may be
    read-only and is no place for a key."""
    if sys.platform == "linux":
        with os.fdopen(os.memfd_create("pem"), "wb") as file:
            file.write(pem.text)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(pem.text)
            file.flush()
            yield file.name
