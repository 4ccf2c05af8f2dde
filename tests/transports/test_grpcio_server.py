"""What the grpcio transport does beside the promises that both gRPC transports share."""

from __future__ import annotations

import asyncio

import grpc.aio

from pyserving.transports.grpcio_server import GrpcioServer
from tests.transports.test_grpc_servers import Service, answered_in_the_end, call_a_path_that_is_not_text, serving


async def test_it_tells_that_it_had_to_open_its_port_again(caplog):
    async with (
        serving(Service(GrpcioServer)) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        await asyncio.to_thread(call_a_path_that_is_not_text, server.port)
        assert await answered_in_the_end(channel) == b"up"
        assert "opened again" in caplog.text
