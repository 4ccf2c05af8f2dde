"""Reads all that a server has sent on one connection, and knows what no server may send."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

import hpack

from tests.transports.http2.peer import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)

MAX_WINDOW = (1 << 31) - 1
DEFAULT_WINDOW = (1 << 16) - 1


def frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """(type, flags, stream, payload) of all frames that are complete."""
    found, i = [], 0
    while i + 9 <= len(data):
        size = int.from_bytes(data[i : i + 3], "big")
        if i + 9 + size > len(data):
            break
        stream_id = int.from_bytes(data[i + 5 : i + 9], "big") & MAX_WINDOW
        found.append((data[i + 3], data[i + 4], stream_id, data[i + 9 : i + 9 + size]))
        i += 9 + size
    return found


@lru_cache(maxsize=1 << 10)
def fields(block: bytes) -> dict[bytes, bytes]:
    """Read without a table: what the server sends may depend on none."""
    return {bytes(name): bytes(value) for name, value in hpack.Decoder().decode(block, raw=True)}


class Credit:
    """What a client has allowed at the most with what it sent, right or wrong."""

    def __init__(self, sent: bytes) -> None:
        self.windows: dict[int, int] = defaultdict(int)
        self.initial = DEFAULT_WINDOW
        self.frame_bytes = 1 << 14
        self.streams: set[int] = set()
        for kind, flags, stream_id, payload in frames(sent):
            if kind == HEADERS:
                self.streams.add(stream_id)
            elif kind == WINDOW_UPDATE and len(payload) == 4:
                self.windows[stream_id] += int.from_bytes(payload, "big") & MAX_WINDOW
            elif kind == SETTINGS and not flags & ACK:
                for i in range(0, len(payload) - 5, 6):
                    self._apply(
                        int.from_bytes(payload[i : i + 2], "big"), int.from_bytes(payload[i + 2 : i + 6], "big")
                    )

    def _apply(self, setting: int, value: int) -> None:
        if setting == 4:
            self.initial = max(self.initial, value)
        elif setting == 5:
            self.frame_bytes = max(self.frame_bytes, value)


class Witness:
    """`examine` raises AssertionError when the server has broken the protocol."""

    def __init__(self, credit: Credit) -> None:
        self._credit = credit
        self._fields: dict[int, dict[bytes, bytes]] = {}
        self._data: dict[int, bytes] = defaultdict(bytes)
        self._over: set[int] = set()
        self._reset: set[int] = set()
        self._last_id = MAX_WINDOW
        self._data_bytes = 0

    def examine(self, data: bytes) -> None:
        found = frames(data)
        assert sum(9 + len(payload) for *_, payload in found) == len(data), "it ends within a frame"
        assert found[0][0] == SETTINGS
        assert not found[0][1] & ACK
        for kind, flags, stream_id, payload in found:
            assert len(payload) <= self._credit.frame_bytes, "a frame larger than the client takes"
            self._examine(kind, flags, stream_id, payload)

    def _examine(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind in (DATA, HEADERS):
            self._on_answer(kind, flags, stream_id, payload)
        elif kind == RST_STREAM:
            assert stream_id in self._credit.streams, "a reset of what never was"
            assert stream_id not in self._reset, "a second reset"
            assert len(payload) == 4
            self._reset.add(stream_id)
        elif kind == WINDOW_UPDATE:
            assert 0 < int.from_bytes(payload, "big") <= MAX_WINDOW
            assert stream_id not in self._reset
        elif kind == GOAWAY:
            last_id = int.from_bytes(payload[:4], "big")
            assert last_id <= self._last_id, "GOAWAY takes back what it refused"
            self._last_id = last_id
        else:
            assert kind in (SETTINGS, PING)
            assert stream_id == 0
            assert len(payload) == 8 or kind == SETTINGS

    def _on_answer(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        assert stream_id in self._credit.streams, "an answer to what was not asked"
        assert stream_id not in self._over, "an answer goes on after its end"
        assert stream_id not in self._reset, "an answer goes on after a reset"
        if kind == HEADERS:
            assert flags & END_HEADERS
            known = self._fields.setdefault(stream_id, {})
            known.update(fields(payload))
            assert b":status" in known
        else:
            assert stream_id in self._fields, "DATA before HEADERS"
            self._data[stream_id] += payload
            self._data_bytes += len(payload)
            assert len(self._data[stream_id]) <= self._credit.initial + self._credit.windows[stream_id]
            assert self._data_bytes <= DEFAULT_WINDOW + self._credit.windows[0]
        if flags & END_STREAM:
            self._over.add(stream_id)
            self._on_end(stream_id)

    def _on_end(self, stream_id: int) -> None:
        answer, data = self._fields[stream_id], self._data[stream_id]
        if answer[b":status"] != b"200":
            assert not data
            return
        assert 0 <= int(answer[b"grpc-status"]) <= 16
        while data:
            size = int.from_bytes(data[1:5], "big")
            assert data[0] == 0
            assert len(data) >= 5 + size, "an answer that ends within a message"
            data = data[5 + size :]
