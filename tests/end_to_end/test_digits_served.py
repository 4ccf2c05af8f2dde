"""The digits demo, trained, served, and asked over its held-back rows by the unmodified client; then its version 2."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from examples.digits.data import Digits, split
from tests.conftest import Exported
from tests.end_to_end.client_requests import example, examples_request, outputs, predict_request
from tests.end_to_end.server_process import Client, ServerProcess
from tests.trained_digits import DIGITS, trained_digits

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(exported: Exported) -> Path:
    """Versions 1 and 2."""
    return exported(trained_digits)


@pytest.fixture(scope="module")
def base_path(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "digits"
    shutil.copytree(trained / "1", folder / "1")
    return folder


@pytest.fixture(scope="module")
def server(base_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--model_name=digits", f"--model_base_path={base_path}") as made:
        yield made


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server) as made:
        yield made


@pytest.fixture(scope="module")
def held_back() -> Digits:
    return split()[1]


def test_predict_and_classify_agree_and_are_right(client: Client, held_back: Digits) -> None:
    response = client.prediction.Predict(predict_request("digits", {"image": held_back.images}), timeout=60)
    predicted = outputs(response)
    assert response.model_spec.version.value == 1
    assert (predicted["label"] == held_back.labels).mean() > 0.93
    examples = [example(image=row.tolist()) for row in held_back.images]
    classified = client.prediction.Classify(examples_request("digits", examples, "classify"), timeout=60)
    for row, found in enumerate(classified.result.classifications):
        scores = [c.score for c in found.classes]
        np.testing.assert_allclose(scores, predicted["scores"][row], rtol=1e-5, atol=1e-6)
        assert int(found.classes[int(np.argmax(scores))].label) == predicted["label"][row]


def test_the_examples_own_client_prints_what_it_sees(server: ServerProcess, held_back: Digits) -> None:
    """The line that `make serve` prints, against the server that it starts."""
    sys.path.insert(0, str(DIGITS))
    try:
        import client as digits_client  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(DIGITS))
    channel = server.channel()
    answer = digits_client.predict(channel, "digits", held_back.images[:10])
    channel.close()
    labels = np.array(answer.outputs["label"].int64_val)
    assert (labels == held_back.labels[:10]).mean() >= 0.8


def test_the_second_version_takes_over(
    server: ServerProcess, client: Client, base_path: Path, trained: Path, held_back: Digits
) -> None:
    shutil.copytree(trained / "2", base_path / "2")
    server.wait_for("Done unloading servable version {name: digits version: 1}")
    response = client.prediction.Predict(predict_request("digits", {"image": held_back.images}), timeout=60)
    assert response.model_spec.version.value == 2
    assert (outputs(response)["label"] == held_back.labels).mean() > 0.93
