"""One gRPC connection that carries bytes: to a port or UNIX socket, in the clear or over TLS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from pyserving.errors import error_for

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

    def credentials(self) -> grpc.ChannelCredentials:
        """OSError for a file that cannot be read."""
        return grpc.ssl_channel_credentials(_read(self.ca_file), _read(self.key_file), _read(self.cert_file))

    @property
    def channel_options(self) -> Sequence[tuple[str, str]]:
        return (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()


def _read(file: str | None) -> bytes | None:
    return Path(file).read_bytes() if file else None


class Channel:
    """Calls unary methods of one server. Threads may share it."""

    def __init__(self, target: str, tls: Tls | None = None, metadata: Mapping[str, str] | None = None) -> None:
        """`target` is `host:port` or `unix:/path`; `metadata` goes with every call."""
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
