"""Signatures and bodies of JSON predict requests, right and wrong, for tests."""

import numpy as np
from hypothesis import strategies as st

from pyserving.errors import ServingError
from pyserving.signature import DataType, SignatureDef, TensorInfo


def signature(**dtypes):
    return SignatureDef({alias: TensorInfo(f"{alias}:0", dtype, None) for alias, dtype in dtypes.items()}, {})


SIGNATURES = {
    "serving_default": signature(x=DataType.DT_FLOAT),
    "two": signature(a=DataType.DT_INT32, b=DataType.DT_FLOAT),
    "text": signature(t=DataType.DT_STRING),
    "no_inputs": signature(),
} | {dtype.type_name: signature(x=dtype) for dtype in DataType}


def outcome(read, *args):
    """What reading gives, as something that compares equal when it is the same."""
    try:
        found = read(*args)
    except ServingError as error:
        return error.status
    inputs = {alias: (array.dtype, array.shape, elements(array)) for alias, array in found.inputs.items()}
    return found.signature_name, found.format, inputs


def elements(array):
    return array.ravel().tolist() if array.dtype.hasobject else np.ascontiguousarray(array).tobytes()


NUMBERS = st.one_of(
    st.integers(-(1 << 65), 1 << 65).map(str),
    st.integers(-300, 300).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda number: f"{number:.9g}"),
    st.sampled_from(["-0", "-0.0", "1e2", "1E+2", "1.5e-400", "1e999", "NaN", "-Infinity", "Inf", "0.5e1"]),
)
OTHERS = st.sampled_from(["true", "false", "null", '"a"', '"\\u00e9\\n"', '{"b64": "aGk="}', '{"b64": 5}', "{}", "[]"])
SPACE = st.sampled_from(["", "", "", " ", "\n  ", "\t\r\n"])


@st.composite
def tensors(draw, elements=NUMBERS):
    """Nested lists, equally long, as text."""
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    return draw(nested(tuple(shape), elements))


@st.composite
def nested(draw, shape, elements):
    if not shape:
        return draw(elements)
    items = [draw(nested(shape[1:], elements)) for _ in range(shape[0])]
    return "[" + draw(SPACE) + f"{draw(SPACE)},{draw(SPACE)}".join(items) + draw(SPACE) + "]"


NAMES = [None, None, "two", "text", "int32", "int64", "uint8", "uint64", "uint32", "bool", "half"]
PIECES = [b"", *(bytes([char]) for char in b'[],{}:"1.-e\\\xff\0 ')]


def row_object(values):
    return f'{{"a": {values[0]}, "b": {values[1]}}}'


@st.composite
def bodies(draw):
    """Bodies of all forms, most of them right, some changed in a few bytes."""
    leaves = draw(st.sampled_from([NUMBERS, st.integers(-9, 300).map(str), st.one_of(NUMBERS, OTHERS), OTHERS]))
    value = tensors(leaves)
    rows = st.lists(value, max_size=3).map(lambda items: f'"instances": [{", ".join(items)}]')
    objects = st.lists(st.tuples(value, value), max_size=3).map(
        lambda items: f'"instances":[{",".join(map(row_object, items))}]'
    )
    columns = value.map(lambda item: f'"inputs":{item}')
    named = st.tuples(value, value).map(lambda item: f'"inputs": {row_object(item)}')
    members = [draw(st.one_of(rows, objects, columns, named))]
    name = draw(
        st.sampled_from([None, None, "two", "text", "int32", "int64", "uint8", "uint64", "uint32", "bool", "half"])
    )
    if name is not None:
        members.insert(draw(st.integers(0, 1)), f'"signature_name": "{name}"')
    text = "{" + f"{draw(SPACE)},{draw(SPACE)}".join(members) + draw(SPACE) + "}"
    return mutated(draw, text.encode())


def mutated(draw, body):
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(body)))
        piece = draw(st.sampled_from(PIECES))
        body = body[:at] + piece + body[at + draw(st.integers(0, 2)) :]
    return body
