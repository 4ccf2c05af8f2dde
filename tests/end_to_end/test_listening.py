"""A real server listens where its flags say, and nowhere else: the kernel's own tables tell."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.python_model import python_model
from tests.end_to_end.server_process import ServerProcess, free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc"),
]

_TCP_LISTEN = "0A"
_UNIX_ACCEPTS = 0x10000
EVERY_HOST = "[::]" if socket.has_dualstack_ipv6() else "0.0.0.0"
GRPC_HOST = {"grpcio": EVERY_HOST, "http2": "0.0.0.0"}
"""gRPC takes 0.0.0.0 for every interface, those of IPv6 among them."""


def sockets_of(pid: int) -> set[str]:
    """Inodes of all sockets that a process has open."""
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except FileNotFoundError:  # it was open for a moment only
            continue
        if match := re.fullmatch(r"socket:\[(\d+)\]", target):
            found.add(match[1])
    return found


def table(pid: int, name: str) -> Iterator[list[str]]:
    """The rows of a process's network namespace that a kernel without IPv6, say, does not have."""
    path = Path(f"/proc/{pid}/net/{name}")
    if path.exists():
        yield from (line.split() for line in path.read_text().splitlines()[1:])


def address(written: str) -> str:
    """`0100007F:1F90` is 127.0.0.1:8080, as a machine of this byte order writes it."""
    host, port = written.split(":")
    packed = b"".join(struct.pack("=I", int(host[at : at + 8], 16)) for at in range(0, len(host), 8))
    ip = ipaddress.ip_address(packed)
    return f"{f'[{ip}]' if ip.version == 6 else ip}:{int(port, 16)}"


def listening(pid: int) -> set[str]:
    """Where a process can be reached: TCP, UDP and raw addresses, and paths of UNIX sockets."""
    ours = sockets_of(pid)
    places = set()
    for version in ("", "6"):
        for row in table(pid, f"tcp{version}"):
            if row[3] == _TCP_LISTEN and row[9] in ours:
                places.add(f"tcp {address(row[1])}")
        for kind in ("udp", "udplite", "raw"):
            places |= {f"{kind} {address(row[1])}" for row in table(pid, kind + version) if row[9] in ours}
    for row in table(pid, "unix"):
        if int(row[3], 16) & _UNIX_ACCEPTS and row[6] in ours:
            places.add(f"unix {row[7]}")
    return places


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return python_model(tmp_path_factory.mktemp("listening"))


def test_the_tables_are_read_right() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        expected = {
            f"tcp 127.0.0.1:{server.getsockname()[1]}",
            f"udp 127.0.0.1:{datagrams.getsockname()[1]}",
        }
        assert expected <= listening(os.getpid())


@pytest.mark.parametrize("transport", ["grpcio", "http2"])
def test_on_a_unix_socket_alone(model: tuple[str, ...], transport: str) -> None:
    with ServerProcess(*model, f"--grpc_transport={transport}") as server:
        assert listening(server.process.pid) == {f"unix {server.address.removeprefix('unix:')}"}


@pytest.mark.proves("flag port", "flag rest_api_port", "flag grpc_transport")
@pytest.mark.parametrize("transport", ["grpcio", "http2"])
def test_on_the_ports_that_it_was_given(model: tuple[str, ...], transport: str) -> None:
    grpc_port, http_port = free_port(), free_port()
    with ServerProcess(
        *model, f"--grpc_transport={transport}", f"--port={grpc_port}", f"--rest_api_port={http_port}"
    ) as server:
        assert listening(server.process.pid) == {
            f"unix {server.address.removeprefix('unix:')}",
            f"tcp {GRPC_HOST[transport]}:{grpc_port}",
            f"tcp {EVERY_HOST}:{http_port}",
        }


@pytest.mark.proves("flag grpc_socket_path")
@pytest.mark.parametrize("transport", ["grpcio", "http2"])
def test_on_no_socket_that_it_was_not_given(model: tuple[str, ...], transport: str) -> None:
    grpc_port = free_port()
    flags = (f"--grpc_transport={transport}", "--grpc_socket_path=", f"--port={grpc_port}")
    with ServerProcess(*model, *flags) as server:
        assert listening(server.process.pid) == {f"tcp {GRPC_HOST[transport]}:{grpc_port}"}
