"""What `load_grpc.py` measures, and what it must show: the cells of each workload and the gates on them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

PRODUCT = "http2"
"""Name of the server that the gates are about."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of load: one connection that always has `in_flight` calls open."""

    workload: str
    in_flight: int
    encoding: str = "float_val"
    """Field of the TensorProto that carries the elements."""
    vary_timeout: bool = False
    """Whether every call brings a grpc-timeout of its own, as the calls of real clients do."""

    @property
    def name(self) -> str:
        parts = [self.workload, f"{self.in_flight} in flight"]
        if self.workload == "image":
            parts.insert(1, self.encoding)
        if self.vary_timeout:
            parts.append("own timeouts")
        return ", ".join(parts)


CELLS = (
    *(Cell("half_plus_two", n, vary_timeout=vary) for vary in (False, True) for n in (1, 32, 256)),
    *(Cell("image", n, encoding) for encoding in ("tensor_content", "float_val") for n in (1, 8)),
    *(Cell("mobilenet_v2", n, "tensor_content") for n in (1, 16)),
)
WORKLOADS = ("half_plus_two", "image", "mobilenet_v2", "soak", "idle")
SOAK_CONNECTIONS, SOAK_IN_FLIGHT = 256, 4
IDLE_CONNECTIONS = 1000
MOST_IDLE_BYTES = 20_000
"""That a connection on which nothing happens may cost."""


class Measure(Enum):
    """What a gate compares, both of one round."""

    RATE_RATIO = "calls/s, times the other's"
    LATENCY_RATIO = "mean latency, times the other's"
    LATENCY_MORE_MS = "mean latency, ms more than the other's"


@dataclass(frozen=True, slots=True)
class Gate:
    """What the product must reach in a cell against a group of servers, at the faster of the group's settings."""

    cell: Cell
    measure: Measure
    against: str
    target: float
    """At least, of a rate; at most, of a latency."""

    @property
    def demand(self) -> str:
        sign = "≥" if self.measure is Measure.RATE_RATIO else "≤"
        return f"{sign} {self.target:g}"

    def is_reached(self, value: float) -> bool:
        return value >= self.target if self.measure is Measure.RATE_RATIO else value <= self.target


def _images(against: str, target: float) -> tuple[Gate, ...]:
    return tuple(
        Gate(Cell("image", 8, encoding), Measure.RATE_RATIO, against, target)
        for encoding in ("tensor_content", "float_val")
    )


_ONE, _MANY = Cell("half_plus_two", 1), Cell("half_plus_two", 32)
GATES = (
    Gate(_MANY, Measure.RATE_RATIO, "grpcio", 8.0),
    Gate(_MANY, Measure.RATE_RATIO, "prototype", 0.8),
    Gate(_MANY, Measure.RATE_RATIO, "floor", 1.8),
    Gate(Cell("half_plus_two", 32, vary_timeout=True), Measure.RATE_RATIO, "floor", 1.5),
    Gate(_ONE, Measure.LATENCY_RATIO, "grpcio", 0.3),
    Gate(_ONE, Measure.LATENCY_RATIO, "prototype", 1.25),
    Gate(_ONE, Measure.LATENCY_RATIO, "floor", 0.95),
    *_images("grpcio", 1.8),
    *_images("prototype", 0.9),
    *_images("floor", 1.5),
    Gate(Cell("mobilenet_v2", 1, "tensor_content"), Measure.LATENCY_MORE_MS, "bare", 0.6),
    Gate(Cell("mobilenet_v2", 16, "tensor_content"), Measure.RATE_RATIO, "bare", 0.97),
)
