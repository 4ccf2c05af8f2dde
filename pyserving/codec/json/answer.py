"""The body of a predict answer: outputs as TensorFlow Serving writes them through RapidJSON's PrettyWriter."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from pyserving.codec.json import bulk, digits, integers
from pyserving.codec.json.layout import Layout, compact, line, pretty, single_line
from pyserving.codec.json.number_text import NonFinite, texts_of
from pyserving.codec.json.text import as_bytes, quoted
from pyserving.codec.json.texts import Texts, joined
from pyserving.errors import InvalidArgument
from pyserving.signature import data_type_of

Outputs = Mapping[str, np.ndarray]

_MAX_PRETTY_BYTES = 65536
"""Longer answers go without white space."""
_MANY = 64
"""Measured: from so many elements on it pays to make the texts of all at once."""
_BYTES_SUFFIX = "_bytes"
_PREDICTIONS, _OUTPUTS = b'"predictions"', b'"outputs"'
_ROW_END = b"\0"
"""Stands in no text: strings have it escaped."""


@dataclass(frozen=True, slots=True, eq=False)
class _Style:
    """White space."""

    line: Callable[[int], bytes]
    """What goes before an item within so many containers that stands on a line of its own."""
    colon: bytes
    array: Callable[[int, int], Layout]
    """Of so many dimensions, within so many containers."""
    row: Callable[[int], Layout]
    """An array on one line."""


_PRETTY = _Style(line, b": ", pretty, single_line)
_COMPACT = _Style(lambda depth: b"", b":", lambda dimensions, depth: compact(dimensions), compact)


class _Output:
    """One output; the texts of its numbers are made once, whatever style they end in."""

    def __init__(self, alias: str, array: np.ndarray, nonfinite: NonFinite) -> None:
        self.key = _key(alias)
        self.shape = array.shape
        """Without what lies below an empty list: that list is an element then."""
        self._array = array
        self._nonfinite = nonfinite
        self._strings: list[bytes] | None = None
        self._is_base64 = False
        self._texts: list[bytes] | Iterable[Texts] = []
        if not array.size:
            self.shape = array.shape[: array.shape.index(0)]
            self._texts = [b"[]"] * prod(self.shape)
        elif array.dtype.hasobject:
            self._strings = array.ravel().tolist()
            self._is_base64 = alias.endswith(_BYTES_SUFFIX)
        else:
            self._texts = _number_texts(array, nonfinite)

    def text(self, layout: Layout, style: _Style, depth: int) -> bytes:
        """`depth`: how many containers stand around an element."""
        if self._strings is not None:
            return layout.joined(self._string_texts(self._strings, style, depth), self.shape)
        if style is _COMPACT and (text := self._bulk_text(layout)):
            return text
        if isinstance(self._texts, list):
            return layout.joined(self._texts, self.shape)
        return joined(self._texts, layout, self.shape)

    def _bulk_text(self, layout: Layout) -> bytes | None:
        """Of large arrays; `layout` may have more around them than an array has."""
        array = self._array
        if array.size < bulk.CHUNK or layout.separators != compact(array.ndim).separators:
            return None
        pieces = bulk.compact_pieces(array, self._nonfinite)
        if pieces is None:
            return None
        brackets = array.ndim
        text = memoryview(b"".join(pieces))[brackets:-brackets]
        return b"".join([layout.opening, text, layout.closing])

    def _string_texts(self, strings: list[bytes], style: _Style, depth: int) -> list[bytes]:
        if not self._is_base64:
            return [quoted(string) for string in strings]
        opening = b"{" + style.line(depth + 1) + b'"b64"' + style.colon + b'"'
        closing = b'"' + style.line(depth) + b"}"
        return [opening + b64encode(string) + closing for string in strings]


@lru_cache(maxsize=1024)
def _key(alias: str) -> bytes:
    return quoted(as_bytes(alias))


def _number_texts(array: np.ndarray, nonfinite: NonFinite) -> list[bytes] | Iterable[Texts]:
    if array.size >= _MANY and (parts := _texts_at_once(array, nonfinite)):
        # Where white space may stay, it may also go, and the texts are wanted again.
        return tuple(parts) if 2 * array.size < _MAX_PRETTY_BYTES else parts
    texts = texts_of(array, nonfinite)
    if texts is None:
        raise InvalidArgument(f"Failed to write JSON value for tensor type: {data_type_of(array).type_name}")
    return texts


def _texts_at_once(array: np.ndarray, nonfinite: NonFinite) -> Iterable[Texts] | None:
    if array.dtype in digits.FLOAT_TYPES:
        return digits.float_texts(array, nonfinite)
    return integers.integer_texts(array)


def encode_rows(outputs: Outputs, nonfinite: NonFinite) -> bytes:
    """`predictions`: one item for each entry of the batch."""
    batch_size = _batch_size(outputs)
    if not batch_size:
        return b'{\n    "predictions": []\n}'
    return _in_style([_Output(alias, array, nonfinite) for alias, array in outputs.items()], _rows)


def encode_columns(outputs: Outputs, nonfinite: NonFinite) -> bytes:
    """`outputs`: the value of the only one, or an object."""
    return _in_style([_Output(alias, array, nonfinite) for alias, array in outputs.items()], _columns)


def _in_style(outputs: list[_Output], write: Callable[[list[_Output], _Style], bytes]) -> bytes:
    shortest = 2 * sum(prod(output.shape) for output in outputs)  # a digit and a comma each
    if shortest < _MAX_PRETTY_BYTES:
        body = write(outputs, _PRETTY)
        if len(body) < _MAX_PRETTY_BYTES:
            return body
    return write(outputs, _COMPACT)


def _batch_size(outputs: Outputs) -> int:
    """The first dimension that all have in common."""
    batch_size = -1
    for alias, array in outputs.items():
        if array.ndim == 0:
            raise InvalidArgument(f"Tensor name: {alias} has no shape information ")
        if batch_size not in (-1, len(array)):
            raise InvalidArgument(
                f"Tensor name: {alias} has inconsistent batch size: {len(array)} expecting: {batch_size}"
            )
        batch_size = len(array)
    return batch_size


def _columns(outputs: list[_Output], style: _Style) -> bytes:
    if len(outputs) == 1:
        dimensions = len(outputs[0].shape)
        return outputs[0].text(_only_column(style, dimensions), style, 1 + dimensions)
    members = [(output.key, _column(output, style)) for output in outputs]
    return _object([(_OUTPUTS, _object(members, style, 1))], style, 0)


def _column(output: _Output, style: _Style) -> bytes:
    dimensions = len(output.shape)
    return output.text(style.array(dimensions, 2), style, 2 + dimensions)


@lru_cache(maxsize=64)
def _only_column(style: _Style, dimensions: int) -> Layout:
    """The whole document, around the one value of it."""
    opening, closing = _object([(_OUTPUTS, _ROW_END)], style, 0).split(_ROW_END)
    layout = style.array(dimensions, 1)
    return Layout(opening + layout.opening, layout.separators, layout.closing + closing)


def _rows(outputs: list[_Output], style: _Style) -> bytes:
    if len(outputs) == 1:
        dimensions = len(outputs[0].shape)
        return outputs[0].text(_only_row_output(style, dimensions), style, 1 + dimensions)
    opening, closing = _around_rows(style)
    return opening + b",".join(_row_objects(outputs, style)) + closing


@lru_cache(maxsize=64)
def _only_row_output(style: _Style, dimensions: int) -> Layout:
    """The whole document, around an array on one line whose last bracket alone stands on another."""
    opening, closing = _around_rows(style)
    layout = style.row(dimensions)
    return Layout(opening + layout.opening[1:], layout.separators, layout.closing[:-1] + closing)


def _around_rows(style: _Style) -> tuple[bytes, bytes]:
    opening, closing = _object([(_PREDICTIONS, b"[" + _ROW_END + style.line(1) + b"]")], style, 0).split(_ROW_END)
    return opening, closing


def _row_objects(outputs: list[_Output], style: _Style) -> list[bytes]:
    """Each with its line's start before it."""
    opening, closing = style.line(2) + b"{", style.line(2) + b"}"
    columns: list[list[bytes]] = []
    for output in outputs:
        lead = (b"," if columns else b"") + style.line(3) + output.key + style.colon
        columns.append([lead + row for row in _row_texts(output, style)])
    return [opening + b"".join(members) + closing for members in zip(*columns, strict=True)]


def _row_texts(output: _Output, style: _Style) -> list[bytes]:
    dimensions = len(output.shape)
    layout = style.row(dimensions)
    begin, end = layout.opening[1:], layout.closing[:-1]
    by_row = Layout(begin, (*layout.separators[:-1], end + _ROW_END + begin), end)
    return output.text(by_row, style, 2 + dimensions).split(_ROW_END)


def _object(members: list[tuple[bytes, bytes]], style: _Style, depth: int) -> bytes:
    """Of keys that are quoted already and values."""
    lead = style.line(depth + 1)
    return b"{" + b",".join([lead + key + style.colon + value for key, value in members]) + style.line(depth) + b"}"
