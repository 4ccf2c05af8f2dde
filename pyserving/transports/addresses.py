"""Addresses to listen on, as gRPC writes them: `0.0.0.0:8500`, `[::]:8500`, `unix:/path`."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from pyserving.errors import InvalidArgument, ServingError
from pyserving.transports import unix_socket

BACKLOG = 1024


def check_addresses(addresses: Sequence[str]) -> None:
    """InvalidArgument when an address is taken now, so that it is told before models load rather than after."""
    for address in addresses:
        path = socket_path(address)
        if path is not None:
            make_room(path)
            if problem := unix_socket.problem(path):
                raise cannot_listen(problem)
            continue
        tcp_listener(address).close()


def tcp_listener(address: str, *, reuse_address: bool = True, reuse_port: bool = False) -> socket.socket:
    """A socket that listens on `host:port`; InvalidArgument when it cannot be had. `[::]` takes IPv4 in as well."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    listener = None
    try:
        family, kind, protocol, _, name = socket.getaddrinfo(
            host or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse_address)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, True)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        listener.bind(name)
        listener.listen(BACKLOG)
    except (OSError, ValueError) as error:
        if listener is not None:
            listener.close()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise cannot_listen(f"cannot listen on {address}: {reason}") from None
    return listener


def unix_listener(path: str) -> socket.socket:
    """A socket that listens at `path`, where room was made before; its mode is as the umask leaves it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise cannot_listen(f"cannot listen on unix:{path}: {error.strerror or error}") from None
    return listener


def socket_path(address: str) -> str | None:
    """The path of a unix socket; None for a TCP address."""
    scheme, _, path = address.partition(":")
    return path.removeprefix("//") if scheme == "unix" else None


def is_local(address: str) -> bool:
    """Nobody on another machine can connect to it, nor see what goes over it."""
    host = address.rpartition(":")[0].strip("[]")
    return socket_path(address) is not None or host in ("localhost", "::1") or host.startswith("127.")


def make_room(path: str) -> None:
    """Clear a stale socket away; InvalidArgument when it is not stale."""
    try:
        unix_socket.clear(path)
    except ServingError as error:
        raise cannot_listen(str(error)) from error


def cannot_listen(reason: str) -> InvalidArgument:
    """TensorFlow Serving's sentence, with the reason that it keeps to itself."""
    return InvalidArgument(f"Failed to BuildAndStart gRPC server: {reason}")
