"""Exits 0 when the server on this machine says by gRPC that it is SERVING; otherwise says why not and exits 1.

The port is 8500, or PYSERVING_HEALTH_PORT where the server was given another.
"""

from __future__ import annotations

import os
import sys

import grpc

from pyserving import protos

TIMEOUT_SECONDS = 3


def health(port: int) -> str:
    """SERVING, NOT_SERVING, or the status code of a call that failed."""
    direct = [("grpc.enable_http_proxy", 0)]  # a proxy in the environment is for the world outside
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=direct) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            protos.HealthCheckRequest.SerializeToString,
            protos.HealthCheckResponse.FromString,
        )
        try:
            answer = check(protos.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    return protos.HealthCheckResponse.ServingStatus.Name(answer.status)


if __name__ == "__main__":
    found = health(int(os.environ.get("PYSERVING_HEALTH_PORT", "8500")))
    print(found)
    sys.exit(found != "SERVING")
