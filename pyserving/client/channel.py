"""One gRPC connection that carries bytes: to a port or UNIX socket, in the clear or over TLS."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from pyserving.errors import InvalidArgument, error_for

_UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM form. With none of them, the server's certificate must be one that the machine trusts."""

    ca_file: str | None = None
    """Certificates that may have signed the server's."""
    cert_file: str | None = None
    """The client's own certificate, where the server asks for one, with `key_file`."""
    key_file: str | None = None
    server_name: str | None = None
    """The name in the server's certificate, where it is not that of the target."""

    def __post_init__(self) -> None:
        if bool(self.cert_file) != bool(self.key_file):  # gRPC's library would end the process
            raise InvalidArgument("A certificate and its key go together: cert_file and key_file")

    def credentials(self) -> grpc.ChannelCredentials:
        """OSError for a file that cannot be read, InvalidArgument for one that is not in PEM form."""
        return grpc.ssl_channel_credentials(_read(self.ca_file), _read(self.key_file), _read(self.cert_file))

    @property
    def channel_options(self) -> Sequence[tuple[str, str]]:
        return (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()


def _read(file: str | None) -> bytes | None:
    if not file:
        return None
    content = Path(file).read_bytes()
    if b"-----BEGIN " not in content:  # gRPC would say that it cannot connect
        raise InvalidArgument(f"{file} is not in PEM form")
    return content


_KEY = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[ -~]*")


def check_metadata(metadata: Mapping[str, str]) -> None:
    """InvalidArgument for what neither gRPC nor HTTP can carry; it names the key, as values may be secret."""
    for key, value in metadata.items():
        if not _KEY.fullmatch(key):
            raise InvalidArgument(f"{key!r} is no name of metadata: a-z, 0-9, _, - and . make one")
        if not _VALUE.fullmatch(value):
            raise InvalidArgument(f"The metadata {key} must be printable ASCII")


class Channel:
    """Calls unary methods of one server. Threads may share it."""

    def __init__(self, target: str, tls: Tls | None = None, metadata: Mapping[str, str] | None = None) -> None:
        """`target` is `host:port` or `unix:/path`; `metadata` goes with every call.

        Raises OSError for a certificate file that cannot be read, InvalidArgument for one that is no PEM and for
        metadata that cannot be sent.
        """
        check_metadata(metadata or {})
        self._metadata = tuple((metadata or {}).items())
        self._channel = (
            grpc.secure_channel(target, tls.credentials(), options=[*_UNLIMITED, *tls.channel_options])
            if tls is not None
            else grpc.insecure_channel(target, options=_UNLIMITED)
        )
        self._methods: dict[str, grpc.UnaryUnaryMultiCallable] = {}

    def call(self, path: str, body: bytes, timeout: float | None) -> bytes:
        """The answer's bytes. `path` is `/tensorflow.serving.PredictionService/Predict`, `timeout` in seconds.

        Raises the ServingError of the status that came instead; Unavailable where there is no server.
        """
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = self._channel.unary_unary(path)
        try:
            answer: bytes = method(body, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise error_for(error.code().value[0], error.details() or "") from None
        return answer

    def close(self) -> None:
        self._channel.close()
