"""From header blocks to request heads, with as little work as blocks that resemble one another need."""

from __future__ import annotations

from collections.abc import Sequence

from pyserving.errors import ResourceExhausted
from pyserving.messages import Authenticate
from pyserving.transports.http2 import request_head
from pyserving.transports.http2.header_pattern import Pattern, pattern_of
from pyserving.transports.http2.hpack import Decoder, Field
from pyserving.transports.http2.request_head import RequestHead

_FIELD_OVERHEAD = 32
_MAX_BLOCKS = 64
_MAX_BLOCK_BYTES = 1 << 10
_MAX_HEADS = 1 << 10
_MAX_HEAD_BYTES = 1 << 10


class Heads:
    """Request heads by their fields, shared by all connections: clients of one kind send the same ones.

    Those that are kept have been let in: who shows the same credentials again is not asked for them.
    """

    def __init__(self, max_header_list_bytes: int, authenticate: Authenticate | None = None) -> None:
        self._max_header_list_bytes = max_header_list_bytes
        self._authenticate = authenticate
        self._heads: dict[tuple[Field, ...], RequestHead] = {}

    def __len__(self) -> int:
        return len(self._heads)

    def forget(self) -> None:
        """Heads that were let in have to be let in anew. Whoever has kept some must let go of them, too."""
        self._heads.clear()

    def head(self, fields: tuple[Field, ...]) -> RequestHead:
        """StreamFailure when the request is malformed; ResourceExhausted when its fields are too many or too long; what
        `authenticate` raises."""
        head = self._heads.get(fields)
        if head is None:
            size = list_bytes(fields)
            if size > self._max_header_list_bytes:
                raise ResourceExhausted(
                    f"Request metadata of {size} bytes exceeds the limit of {self._max_header_list_bytes}"
                )
            head = request_head.parse(fields)
            if self._authenticate is not None and not head.http_error:
                self._authenticate("POST", head.path, head.metadata)
            if size <= _MAX_HEAD_BYTES:
                _make_room(self._heads, _MAX_HEADS)
                self._heads[fields] = head
        return head


class HeadReader:
    """Reads the header blocks of one connection.

    A block that leaves the dynamic table alone means the same each time it comes, until another changes the table. Real
    clients do change it, for a grpc-timeout that is new with every call: then a pattern tells of the next block that
    all but the timeout is the same.
    """

    def __init__(self, heads: Heads) -> None:
        self._heads = heads
        self._decoder = Decoder()
        self._blocks: dict[bytes, tuple[RequestHead, float | None]] = {}
        self._pattern: Pattern | None = None
        self._head: RequestHead
        """What blocks of the pattern say."""

    def __len__(self) -> int:
        """Blocks whose meaning is known."""
        return len(self._blocks)

    def forget(self) -> None:
        """As Heads.forget."""
        self._blocks.clear()
        self._pattern = None

    def read(self, block: bytes) -> tuple[RequestHead, float | None]:
        """The head, and the timeout in seconds. HpackError, and what `Heads.head` raises."""
        known = self._blocks.get(block)
        if known is not None:
            return known
        if self._pattern is not None and (value := self._pattern.value(block)) is not None:
            if self._blocks and self._pattern.inserts:
                self._blocks.clear()
            if not self._pattern.is_valid:
                self._pattern = None
            return self._head, request_head.timeout_seconds(value)
        return self._read_slowly(block)

    def _read_slowly(self, block: bytes) -> tuple[RequestHead, float | None]:
        before = self._decoder.changes
        fields = self.decode(block)
        timeout = None
        place = next((place for place, (name, _) in enumerate(fields) if name == request_head.TIMEOUT), None)
        if place is not None:
            timeout = request_head.timeout_seconds(fields.pop(place)[1])
        head = self._heads.head(tuple(fields))
        pattern = pattern_of(block, place, self._decoder) if place is not None else None
        if pattern is not None:
            self._pattern, self._head = pattern, head
        elif self._decoder.changes == before and len(block) <= _MAX_BLOCK_BYTES:
            _make_room(self._blocks, _MAX_BLOCKS)
            self._blocks[block] = head, timeout
        return head, timeout

    def decode(self, block: bytes) -> list[Field]:
        """The fields as they are, of trailers for one."""
        before = self._decoder.changes
        fields = self._decoder.decode(block)
        if self._decoder.changes != before:
            self._blocks.clear()
            self._pattern = None
        return fields


def list_bytes(fields: Sequence[Field]) -> int:
    """As SETTINGS_MAX_HEADER_LIST_SIZE counts."""
    return sum(len(name) + len(value) + _FIELD_OVERHEAD for name, value in fields)


def _make_room(cache: dict, limit: int) -> None:
    if len(cache) >= limit:
        cache.clear()
