"""What counts as the same answer."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from pyserving import protos
from pyserving.codec.tensor_proto import encode_into
from pyserving.request_log.comparison import Tolerance, differences

Y = np.array([1.0, 2.0, np.nan], np.float32)


def predicted(version: int = 1, **outputs: np.ndarray) -> Any:
    response = protos.PredictResponse()
    response.model_spec.version.value = version
    for alias, array in outputs.items():
        encode_into(array, response.outputs[alias])
    return response


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        (Y, Y),
        (Y, Y + np.float32(1e-5)),
        (np.array([b"a"], object), np.array([b"a"], object)),
        (np.array([1 + 1j], np.complex64), np.array([1.00001 + 1j], np.complex64)),
        (np.ones(2, ml_dtypes.bfloat16), np.ones(2, ml_dtypes.bfloat16)),
        (np.empty((0, 2), np.int64), np.empty((0, 2), np.int64)),
    ],
)
def test_these_are_the_same(wanted: np.ndarray, got: np.ndarray) -> None:
    assert differences(predicted(1, y=wanted), predicted(2, y=got), Tolerance()) == []


@pytest.mark.parametrize(
    ("wanted", "got", "line"),
    [
        (Y, Y * 2, "y: 2 of 3 elements differ, by 2 at most"),
        (Y, Y.astype(np.float64), "y has type float64, was float32"),
        (Y, Y.reshape(1, 3), "y has shape [1, 3], was [3]"),
        (np.array([1, 2]), np.array([1, 3]), "y: 1 of 2 elements differ"),
        (np.array([b"a"], object), np.array([b"b"], object), "y: 1 of 1 elements differ"),
        (np.ones(2, ml_dtypes.bfloat16), np.zeros(2, ml_dtypes.bfloat16), "y: 2 of 2 elements differ, by 1 at most"),
        (np.array([np.inf, 1.0]), np.array([np.inf, 2.0]), "y: 1 of 2 elements differ, by 1 at most"),
    ],
)
def test_these_are_not(wanted: np.ndarray, got: np.ndarray, line: str) -> None:
    assert differences(predicted(y=wanted), predicted(y=got), Tolerance()) == [line]


def test_outputs_that_come_and_go_are_told() -> None:
    assert differences(predicted(a=Y, b=Y), predicted(b=Y, c=Y), Tolerance()) == ["a is missing", "c is new"]


def classified(label: str, score: float, version: int = 1) -> Any:
    response = protos.ClassificationResponse()
    response.model_spec.version.value = version
    response.result.classifications.add().classes.add(label=label, score=score)
    return response


def test_labels_are_compared_exactly_and_scores_within_the_tolerance() -> None:
    wanted = classified("yes", 0.5)
    assert differences(wanted, classified("yes", 0.500001, version=2), Tolerance()) == []
    assert differences(wanted, classified("yes", 0.0), Tolerance()) == [
        "result.classifications[0].classes[0].score is 0, was 0.5"
    ]
    assert differences(wanted, classified("no", 0.5), Tolerance()) == [
        "result.classifications[0].classes[0].label is 'no', was 'yes'"
    ]
