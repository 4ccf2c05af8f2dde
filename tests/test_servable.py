"""Checks in TensorFlow Serving's order and words, before any tensor is looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from pyserving.errors import FailedPrecondition, Internal, InvalidArgument
from pyserving.servable import Servable
from pyserving.session import DirectSession
from pyserving.types import Prediction, ServableId
from pyserving.workers import Workers
from tests.fake_executor import FakeExecutor


class Untouchable(Mapping[str, np.ndarray]):
    """Inputs that may be named but not taken."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def __getitem__(self, alias: str) -> np.ndarray:
        raise AssertionError(f"{alias} was taken before the names were found right")

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names


class NoHandle:
    def copy(self) -> NoHandle:
        return self

    def close(self) -> None:
        pass


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    async with Workers("run", 1) as made:
        yield made


def make(workers: Workers, **options: Any) -> Servable:
    executor = FakeExecutor()
    return Servable(ServableId("m", 3), executor, DirectSession(executor, workers), **options)


async def predict(
    servable: Servable, inputs: Mapping[str, np.ndarray], signature: str = "", *output_filter: str
) -> Prediction:
    return await servable.predict(NoHandle(), signature, inputs, output_filter, None)  # type: ignore[arg-type]


X = np.array([1.0, 2.0], np.float32)


async def test_it_answers_every_output_by_alias(workers: Workers) -> None:
    prediction = await predict(make(workers), {"x": X})
    assert prediction.servable_id == ServableId("m", 3)
    assert prediction.signature_name == "serving_default"
    assert {alias: array.tolist() for alias, array in prediction.outputs.items()} == {
        "y": [2.0, 4.0],
        "twin": [2.0, 4.0],
        "s": [1.0, 2.0],
    }
    assert prediction.runtime_micros > 0


async def test_an_output_filter_picks_outputs(workers: Workers) -> None:
    prediction = await predict(make(workers), {"x": X}, "", "s")
    assert list(prediction.outputs) == ["s"]


async def test_a_default_stands_in_for_a_missing_input(workers: Workers) -> None:
    prediction = await predict(make(workers), {"x": X}, "two")
    assert prediction.outputs["s"].tolist() == [11.0, 12.0]


@pytest.mark.parametrize(
    ("signature", "names", "output_filter", "error"),
    [
        ("nope", ("x",), (), FailedPrecondition('Serving signature key "nope" not found.')),
        (
            "",
            ("unknown_key1", "unknown_key2"),
            (),
            InvalidArgument(
                "input size does not match signature: 2!=1 len({unknown_key1,unknown_key2}) != len({x}). "
                "Sent extra: {unknown_key1,unknown_key2}. Missing but required: {x}."
            ),
        ),
        (
            "",
            (),
            (),
            InvalidArgument(
                "input size does not match signature: 0!=1 len({}) != len({x}). "
                "Sent extra: {}. Missing but required: {x}."
            ),
        ),
        (
            "",
            ("y",),
            (),
            InvalidArgument(
                "Signature input alias: x(feed name: x:0) not found in request and no default value provided. "
                "Inputs expected to be in the request {y}, or default input alias set: {}"
            ),
        ),
        (
            "two",
            ("x", "other"),
            (),
            InvalidArgument("Inputs contains invalid name. Used request inputs: x, request input: other,x"),
        ),
        (
            "two",
            ("z",),
            (),
            InvalidArgument(
                "Signature input alias: x(feed name: x:0) not found in request and no default value provided. "
                "Inputs expected to be in the request {z}, or default input alias set: {z}"
            ),
        ),
    ],
)
async def test_names_are_refused_before_a_tensor_is_taken(
    workers: Workers, signature: str, names: tuple[str, ...], output_filter: tuple[str, ...], error: Any
) -> None:
    with pytest.raises(type(error)) as raised:
        await predict(make(workers), Untouchable(*names), signature, *output_filter)
    assert raised.value.message == error.message


async def test_output_filters_are_checked(workers: Workers) -> None:
    servable = make(workers)
    with pytest.raises(InvalidArgument) as raised:
        await predict(servable, {"x": X}, "", "s", "nope")
    assert raised.value.message == (
        "output tensor alias not found in signature: nope Outputs expected to be in the set {s,twin,y}."
    )
    with pytest.raises(InvalidArgument) as raised:
        await predict(servable, {"x": X}, "", "s", "s")
    assert raised.value.message == "duplicate output tensor alias: s"


async def test_a_signature_that_cannot_be_planned_keeps_its_error_and_harms_no_other(workers: Workers) -> None:
    servable = make(workers)
    for _ in range(2):
        with pytest.raises(InvalidArgument, match="nowhere:0 is not in the graph"):
            await predict(servable, {"x": X}, "broken")
    assert (await predict(servable, {"x": X})).outputs["y"].tolist() == [2.0, 4.0]


async def test_the_method_name_is_checked_only_on_demand(workers: Workers) -> None:
    assert (await predict(make(workers), {"x": X}, "odd")).outputs["y"].tolist() == [2.0, 4.0]
    with pytest.raises(Internal) as raised:
        await predict(make(workers, enable_signature_method_name_check=True), {"x": X}, "odd")
    assert raised.value.message == (
        "Expected prediction signature method_name to be one of {tensorflow/serving/predict, "
        "tensorflow/serving/classify, tensorflow/serving/regress}. Was: odd/method"
    )


async def test_a_wrong_dtype_is_refused_in_tensorflows_words(workers: Workers) -> None:
    with pytest.raises(InvalidArgument) as raised:
        await predict(make(workers), {"x": X.astype(np.float64)})
    assert raised.value.message == "Expects arg[0] to be float but double is provided"


async def test_it_tells_where_each_signature_that_can_be_run_is_run(workers: Workers) -> None:
    assert make(workers).execution == {"serving_default": "workers", "two": "workers", "odd": "workers"}
