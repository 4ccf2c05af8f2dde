"""Merging, padding and splitting, whatever the shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from pyserving.batching.tensors import (
    Arenas,
    Unjoinable,
    Unsplittable,
    batch_rows,
    has_rows,
    join,
    merge,
    merged_shape,
    padded_shapes,
    padding_bytes,
    shapes,
    split,
)
from pyserving.errors import InvalidArgument

ELEMENTS = st.sampled_from([np.float32, np.int64, np.uint8, np.bool_, np.complex64, np.float16])


def merged(arrays: list[np.ndarray], run_size: int) -> np.ndarray:
    made = np.empty(merged_shape(arrays, run_size), arrays[0].dtype)
    merge(arrays, made, sum(map(len, arrays)))
    return made


@given(st.data())
def test_what_is_merged_and_split_is_what_it_was(data):
    dtype = data.draw(ELEMENTS)
    form = data.draw(numpy_strategies.array_shapes(min_dims=0, max_dims=3, max_side=3))
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    arrays = [data.draw(numpy_strategies.arrays(dtype, (size, *form))) for size in sizes]
    run_size = sum(sizes) + data.draw(st.integers(0, 3))
    together = merged(arrays, run_size)
    assert together.shape == (run_size, *form)
    for array, (part,) in zip(arrays, split([together], sizes, run_size), strict=True):
        assert part.tobytes() == array.tobytes()
        assert part.base is together
    filler = arrays[-1][:1]
    assert all(row.tobytes() == filler.tobytes() for row in together[sum(sizes) :])
    assert padding_bytes(arrays, together) == filler.nbytes * (run_size - sum(sizes))


@given(st.data())
def test_padded_arrays_keep_their_elements_and_end_in_their_own_first(data):
    rank = data.draw(st.integers(1, 4))
    forms = st.tuples(*[st.integers(1, 3)] * rank)
    arrays = [
        data.draw(numpy_strategies.arrays(np.int64, (data.draw(st.integers(1, 3)), *data.draw(forms))))
        for _ in range(data.draw(st.integers(1, 4)))
    ]
    assert len({padded_shapes([array]) for array in arrays}) == 1
    together = merged(arrays, sum(map(len, arrays)))
    start = 0
    for array in arrays:
        room = together[start : start + len(array)]
        inside = tuple(slice(size) for size in array.shape)
        expected = np.full(room.shape, array.flat[0])
        expected[inside] = array
        assert room.tolist() == expected.tolist()
        start += len(array)


def test_strings_are_merged():
    assert merged([np.array([b"a", b""], object), np.array([b"bc"], object)], 4).tolist() == [b"a", b"", b"bc", b"bc"]


def test_outputs_of_several_tensors_are_split_alike():
    outputs = [np.arange(3), np.arange(6).reshape(3, 2)]
    assert [[part.tolist() for part in parts] for parts in split(outputs, [1, 2], 3)] == [
        [[0], [[0, 1]]],
        [[1, 2], [[2, 3], [4, 5]]],
    ]


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (np.float32(1), "Batched output tensor has 0 dimensions"),
        (
            np.zeros(2),
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
            "tensors",
        ),
    ],
)
def test_outputs_without_a_row_for_each_are_not_split(output, sentence):
    with pytest.raises(Unsplittable) as refused:
        split([np.asarray(output)], [1, 2], 3)
    assert str(refused.value) == sentence


def test_outputs_of_pieces_are_joined_where_they_are_of_one_form():
    assert [whole.tolist() for whole in join([[np.array([1, 2])], [np.array([3])]])] == [[1, 2, 3]]
    with pytest.raises(Unjoinable, match=r"^Tensor concat operation failed: "):
        join([[np.zeros((2, 2))], [np.zeros((1, 3))]])


@pytest.mark.parametrize(
    ("forms", "expected"), [([(3,), (3, 2)], True), ([], True), ([(3,), (2,)], False), ([()], False), ([(0,)], False)]
)
def test_outputs_have_a_row_for_each_or_not(forms, expected):
    assert has_rows([np.zeros(form) for form in forms], 3) is expected


@pytest.mark.parametrize(
    ("forms", "rows"), [([(3, 2), (3,)], 3), ([], 0), ([()], 0), ([(2,), ()], 0), ([(0, 4)], 0), ([(1,)], 1)]
)
def test_rows_of_a_request(forms, rows):
    assert batch_rows([np.zeros(form) for form in forms]) == rows


def test_rows_must_be_the_same_for_all():
    with pytest.raises(InvalidArgument, match="must have equal 0th-dimension size"):
        batch_rows([np.zeros(2), np.zeros(3)])


def test_what_cannot_be_padded_goes_with_its_like():
    many = np.zeros((1,) * 7)
    assert padded_shapes([many]) == ((1,) * 6,)
    assert padded_shapes([np.zeros((2, 0))]) != padded_shapes([np.zeros((2, 3))])
    assert shapes([np.zeros((2, 3))]) == (3,)


def test_memory_is_handed_out_aligned_and_again_when_nobody_holds_it():
    arenas = Arenas(2)
    forms = [((5, 1 << 14), np.dtype(np.float32)), ((3,), np.dtype(np.uint8)), ((2, 2), np.dtype(np.int64))]
    first = arenas.arrays(forms)
    assert [(array.shape, array.dtype) for array in first] == [(shape, dtype) for shape, dtype in forms]
    assert all(array.ctypes.data % 64 == 0 for array in first)
    place, view = first[0].ctypes.data, first[0][2:3]
    del first
    second = arenas.arrays(forms)
    assert second[0].ctypes.data != place
    del view
    third = arenas.arrays(forms)
    assert third[0].ctypes.data == place


def test_larger_memory_takes_the_place_of_smaller():
    arenas = Arenas(1)
    small, large = [((1 << 17,), np.dtype(np.uint8))], [((1 << 18,), np.dtype(np.uint8))]
    arenas.arrays(small)
    place = arenas.arrays(large)[0].ctypes.data
    assert arenas.arrays(small)[0].ctypes.data == place
