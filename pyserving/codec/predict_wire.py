"""PredictRequests from the wire, with the tensors' elements left where they lie.

A scan finds the bytes that already are an array's own; protobuf reads the little that is left around them, so that it
stays the judge of every message. What the scan does not know well, protobuf reads whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pyserving import protos
from pyserving.codec import model_spec
from pyserving.codec.message import parse
from pyserving.codec.tensor_proto import (
    DEFAULT_MAX_BYTES,
    WIRE_TAGS,
    TensorProtoInputs,
    elements_as_they_lie,
    encoded_varint,
)
from pyserving.errors import Internal
from pyserving.messages import Buffer
from pyserving.types import ModelSpec

_INPUTS, _KEY, _TENSOR = 0x12, 0x0A, 0x12
"""Tags: PredictRequest.inputs, and the two fields of an entry of this map."""
_ELEMENTS = {int.from_bytes(tag, "little"): tag for tag in WIRE_TAGS}
_VARINT, _LENGTH_DELIMITED = 0, 2
_MAX_MESSAGE_BYTES = 0x7FFF_FFFF  # protobuf refuses more
_MAX_INPUTS = 256
_MAX_TENSOR_FIELDS = 8
"""A scan that would go over more fields than these is left to protobuf, which is quicker at each."""
_MAX_REST_BYTES = 8192


class PredictCall(NamedTuple):
    """What a PredictRequest asks for."""

    model_spec: ModelSpec | None
    inputs: Mapping[str, np.ndarray]
    """By alias; an array is made, and InvalidArgument raised, when it is taken out."""
    output_filter: Sequence[str]
    num_expanded_bytes: int
    """What taking the inputs out costs: bytes of the arrays that have to be made, not of those in the body."""
    layout: RequestLayout | None = None
    """What it has in common with others that have come, or will come, if that is known."""


class PredictDecoder:
    """Reads the PredictRequests of one server, and learns the layouts in which they keep coming.

    Clients send one body after another that differ in their elements alone. Where these lie is then found by comparing
    the bytes around them, which takes less time than protobuf does for the smallest of requests.
    """

    LARGE_BYTES = 262_144
    """Bodies from here on are scanned when their layout is not known: it pays even if it does not come again."""
    SCANNED_OF_SMALL = 256
    """One in so many smaller bodies of unknown layout is scanned, so that those which never repeat cost nothing."""
    MAX_LAYOUTS = 128
    _HEAD_BYTES = 16  # tells models and aliases apart, and mostly ends before the elements

    def __init__(self, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        """Tensors that would take more than `max_bytes` are refused before memory is taken."""
        self._max_bytes = max_bytes
        self._layouts: dict[tuple[int, bytes], RequestLayout] = {}
        self._num_unknown = 0
        self._last: RequestLayout | None = None
        self._last_size = 0

    def layout(self, body: Buffer) -> RequestLayout | None:
        """That of `body`, if it is known."""
        size = len(body)
        if size == self._last_size and self._last is not None and self._last.fits(body):
            return self._last
        layout = self._layouts.get((size, bytes(body[: self._HEAD_BYTES])))
        if layout is None or not layout.fits(body):
            return None
        self._last, self._last_size = layout, size
        return layout

    def decode(self, body: Buffer) -> PredictCall:
        """Internal for bytes that are no PredictRequest. Arrays keep `body`, which must not change from here on."""
        layout = self.layout(body) or self._scanned(body)
        return self._by_protobuf(body) if layout is None else layout.call(body)

    def _scanned(self, body: Buffer) -> RequestLayout | None:
        self._num_unknown += 1
        if len(body) < self.LARGE_BYTES and self._num_unknown % self.SCANNED_OF_SMALL != 1:
            return None
        layout = scan(body, self._max_bytes)
        if layout is not None and layout.num_rest_bytes <= _MAX_REST_BYTES:
            self._layouts[len(body), bytes(body[: self._HEAD_BYTES])] = layout
            self._last, self._last_size = layout, len(body)
            if len(self._layouts) > self.MAX_LAYOUTS:
                del self._layouts[next(iter(self._layouts))]
        return layout

    def _by_protobuf(self, body: Buffer) -> PredictCall:
        request = parse(protos.PredictRequest, body)
        inputs = TensorProtoInputs(request.inputs, self._max_bytes)
        return PredictCall(_spec(request), inputs, request.output_filter, inputs.num_expanded_bytes())


def _spec(request: protos.PredictRequest) -> ModelSpec | None:
    wire = request.model_spec.SerializeToString()
    return model_spec.from_wire(wire) if wire or request.HasField("model_spec") else None


class Elements(NamedTuple):
    """Bytes of a body that are an array as they lie."""

    where: slice
    dtype: np.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class RequestLayout:
    """All that request bodies have in common which differ in their tensors' elements alone."""

    rest: tuple[tuple[slice, bytes], ...]
    """The bytes around the elements, and where they are."""
    booleans: tuple[slice, ...]
    """Where bytes are that must be 0 or 1; what others mean is left to protobuf."""
    elements: Mapping[str, Elements | None]
    """Of every input; None where they are in `tensors`."""
    tensors: TensorProtoInputs
    num_expanded_bytes: int
    model_spec: ModelSpec | None
    output_filter: tuple[str, ...]

    @property
    def num_rest_bytes(self) -> int:
        return sum(len(piece) for _, piece in self.rest)

    def fits(self, body: Buffer) -> bool:
        """Whether `body`, of the same length, is another of these."""
        for where, piece in self.rest:
            if body[where] != piece:
                return False
        return not self.booleans or self.has_booleans(body)

    def has_booleans(self, body: Buffer) -> bool:
        return all(np.frombuffer(body[where], np.uint8).max() <= 1 for where in self.booleans)

    def call(self, body: Buffer) -> PredictCall:
        return PredictCall(self.model_spec, MappedInputs(self, body), self.output_filter, self.num_expanded_bytes, self)


class MappedInputs(Mapping[str, np.ndarray]):
    """Inputs whose elements stay in the request's body; read-only when the body is."""

    __slots__ = ("_body", "_layout")

    def __init__(self, layout: RequestLayout, body: Buffer) -> None:
        self._layout = layout
        self._body = body

    def __getitem__(self, alias: str) -> np.ndarray:
        """InvalidArgument for a tensor that is no array."""
        elements = self._layout.elements[alias]
        if elements is None:
            return self._layout.tensors[alias]
        array: np.ndarray = np.ndarray(elements.shape, elements.dtype, self._body, elements.where.start)
        return array

    def __contains__(self, alias: object) -> bool:
        return alias in self._layout.elements

    def __iter__(self) -> Iterator[str]:
        return iter(self._layout.elements)

    def __len__(self) -> int:
        return len(self._layout.elements)


def scan(body: Buffer, max_bytes: int = DEFAULT_MAX_BYTES) -> RequestLayout | None:
    """The layout of `body`; None when there is nothing to gain by one, or protobuf should judge all of it."""
    try:
        spans, num_entries = _spans(body)
        if not _is_gain(body, spans):
            return None
        request = parse(protos.PredictRequest, _without_elements(body, spans))
    except (_Unusual, Internal):
        return None
    if num_entries != len(request.inputs):  # of two entries with one alias, the later counts
        return None
    mapped = {}
    for span in spans:
        alias = bytes(body[span.key]).decode()
        as_they_lie = elements_as_they_lie(request.inputs[alias], span.tag, span.num_bytes, max_bytes)
        if as_they_lie is None:
            return None
        mapped[alias] = Elements(span.elements, *as_they_lie)
    tensors = TensorProtoInputs(request.inputs, max_bytes)
    layout = RequestLayout(
        tuple(_rest(body, spans)),
        tuple(elements.where for elements in mapped.values() if elements.dtype == np.bool_),
        {alias: mapped.get(alias) for alias in tensors},
        tensors,
        tensors.num_expanded_bytes(without=mapped),
        _spec(request),
        tuple(request.output_filter),
    )
    return layout if layout.has_booleans(body) else None


def elements_offset(head: Buffer, size: int, at_least: int) -> int | None:
    """Where the first `at_least` bytes of elements begin in a PredictRequest of `size` bytes that begins with `head`.

    None when `head` does not tell. For whoever chooses where in memory a body comes to lie: TensorFlow takes an array
    on a 64-byte boundary as it is, and copies others.
    """
    begin, end = 0, size
    try:
        for tags in ({_INPUTS}, {_TENSOR}, _ELEMENTS):
            fields = _fields(head, begin, end, _MAX_INPUTS)
            begin, end = next((f.begin, f.end) for f in fields if f.tag in tags and f.end - f.begin >= at_least)
    except (_Unusual, StopIteration):
        return None
    return begin


class ElementsOffset:
    """`elements_offset` of one request after another, which mostly begin as the last did."""

    def __init__(self, at_least: int) -> None:
        self._at_least = at_least
        self._size = -1
        self._begin = b""
        """Up to where the elements began."""

    def __call__(self, head: Buffer, size: int) -> int | None:
        """As the function."""
        offset = len(self._begin)
        if size == self._size and bytes(head[:offset]) == self._begin:
            return offset
        found = elements_offset(head, size, self._at_least)
        if found is not None:
            self._size, self._begin = size, bytes(head[:found])
        return found


class _Unusual(Exception):
    """Protobuf should judge this."""


class _Field(NamedTuple):
    tag: int
    """Its bytes, little-endian."""
    start: int
    """Where the tag is."""
    begin: int
    """Where the value is."""
    end: int


class _Span(NamedTuple):
    """Elements in a body, and what lies around them."""

    entry: _Field
    key: slice
    tensor: _Field
    tag: bytes
    start: int
    """Where the tag is."""
    elements: slice

    @property
    def num_bytes(self) -> int:
        size: int = self.elements.stop - self.elements.start
        return size


def _spans(body: Buffer) -> tuple[list[_Span], int]:
    """Elements that might be mapped, and the number of inputs."""
    entries = [field for field in _fields(body, 0, len(body), _MAX_INPUTS) if field.tag == _INPUTS]
    spans = (_span(body, entry) for entry in entries)
    return [span for span in spans if span is not None], len(entries)


def _span(body: Buffer, entry: _Field) -> _Span | None:
    """Of the only elements in an entry that is a key and a tensor."""
    fields = list(_fields(body, entry.begin, entry.end, 2))
    if [field.tag for field in fields] != [_KEY, _TENSOR]:
        return None
    key, tensor = fields
    within = _fields(body, tensor.begin, tensor.end, _MAX_TENSOR_FIELDS)
    values = [field for field in within if field.tag in _ELEMENTS]
    if len(values) != 1 or values[0].begin == values[0].end:
        return None
    tag, start, begin, end = values[0]
    return _Span(entry, slice(key.begin, key.end), tensor, _ELEMENTS[tag], start, slice(begin, end))


def _fields(body: Buffer, at: int, end: int, most: int) -> Iterator[_Field]:
    """Up to `most` fields between two places. _Unusual for more, and for what common writers do not write."""
    for _ in range(most):
        if at == end:
            return
        start = at
        try:
            tag = body[at]
            if tag > 0x7F:
                at += 1
                tag |= body[at] << 8
            length, at = _varint(body, at + 1)
        except IndexError:
            raise _Unusual from None
        begin, kind = at, tag & 7
        if kind == _LENGTH_DELIMITED:
            at += length
        if at > end or kind not in (_VARINT, _LENGTH_DELIMITED) or not (tag < 0x80 or 0x100 <= tag < 0x8000):
            raise _Unusual
        yield _Field(tag, start, begin, at)
    if at != end:
        raise _Unusual


def _varint(body: Buffer, at: int) -> tuple[int, int]:
    """A varint of up to five bytes and where it ends."""
    byte = body[at]
    if byte < 0x80:
        return byte, at + 1
    value = byte & 0x7F
    for shift in (7, 14, 21, 28):
        at += 1
        byte = body[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
    raise _Unusual


def _is_gain(body: Buffer, spans: Sequence[_Span]) -> bool:
    num_mapped = sum(span.num_bytes for span in spans)
    num_rest = len(body) - num_mapped
    return num_mapped > 0 and len(body) <= _MAX_MESSAGE_BYTES and (num_rest <= _MAX_REST_BYTES or num_rest < num_mapped)


def _rest(body: Buffer, spans: Sequence[_Span]) -> Iterator[tuple[slice, bytes]]:
    begin = 0
    for end, following in [*((span.elements.start, span.elements.stop) for span in spans), (len(body), 0)]:
        if begin < end:
            yield slice(begin, end), bytes(body[begin:end])
        begin = following


def _without_elements(body: Buffer, spans: Sequence[_Span]) -> bytes:
    """The same message, but for the fields of the elements."""
    parts: list[Buffer] = []
    begin = 0
    for span in spans:
        tensor = bytes(body[span.tensor.begin : span.start]) + bytes(body[span.elements.stop : span.tensor.end])
        entry = b"".join((body[span.entry.begin : span.tensor.start], b"\x12", encoded_varint(len(tensor)), tensor))
        parts += (body[begin : span.entry.start], b"\x12", encoded_varint(len(entry)), entry)
        begin = span.entry.end
    parts.append(body[begin:])
    return b"".join(parts)
