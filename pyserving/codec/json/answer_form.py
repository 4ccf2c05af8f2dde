"""Answers of a few numbers: the text around and between them is the same for all outputs of the same shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from pyserving.codec.json.number_text import NonFinite, words_of
from pyserving.codec.json.predict import Format, encode_predict

MOST_NUMBERS = 64
"""In all. With more it pays to make the texts of all at once."""
_FIRST_MARK = 7_000_000_000_000_000_000
"""Stands where a number will, with the number's place in the outputs added to it."""
_MARK = re.compile(r"70{15}[0-9]{3}")
_MOST_BYTES = 32 << 10
"""Far from where white space ends."""


class AnswerForm:
    """Writes outputs of known shapes and types as `encode_predict` does."""

    __slots__ = ("_kinds", "_nonfinite", "_order", "_text")

    def __init__(
        self,
        text: str,
        order: Sequence[int] | None,
        kinds: Sequence[tuple[tuple[int, ...], np.dtype]],
        nonfinite: NonFinite,
    ) -> None:
        """`text` has a `%s` for each number, its bytes being Latin-1; `order` says for each of them which number of the
        outputs it is, None where they stand in their order."""
        self._text = text
        self._order = order
        self._kinds = kinds
        self._nonfinite = nonfinite

    def encode(self, outputs: Sequence[np.ndarray]) -> bytes | None:
        """None for outputs of other shapes or types. They come in the order in which the form was made of them."""
        words: list[str] = []
        for array, (shape, dtype) in zip(outputs, self._kinds, strict=True):
            if array.shape != shape or array.dtype != dtype:
                return None
            words += words_of(array, self._nonfinite) or ()
        if self._order is not None:
            words = [words[index] for index in self._order]
        return (self._text % tuple(words)).encode("latin-1")


def answer_form(
    outputs: Mapping[str, np.ndarray], format: Format, *, nonfinite: NonFinite = NonFinite.TOKEN
) -> AnswerForm | None:
    """The form of answers like the one that these outputs, which can be written, are written as; None for one that has
    no such form, being large or not of numbers alone."""
    arrays = list(outputs.values())
    count = sum(array.size for array in arrays)
    if not 0 < count <= MOST_NUMBERS or not all(array.size and words_of(array, nonfinite) for array in arrays):
        return None
    text = encode_predict(_marked(outputs), format).decode("latin-1")
    order = [int(mark) - _FIRST_MARK for mark in _MARK.findall(text)]
    if sorted(order) != list(range(count)) or len(text) > _MOST_BYTES:
        return None
    text = _MARK.sub("%s", text.replace("%", "%%"))
    kinds = [(array.shape, array.dtype) for array in arrays]
    return AnswerForm(text, None if order == sorted(order) else order, kinds, nonfinite)


def _marked(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    first, marked = _FIRST_MARK, {}
    for alias, array in outputs.items():
        marked[alias] = np.arange(first, first + array.size).reshape(array.shape)
        first += array.size
    return marked
