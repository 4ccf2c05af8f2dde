"""Classify, Regress and MultiInference of real models, over gRPC and REST: one question, one answer, either way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from tensorflow_serving.apis import inference_pb2

from examples.digits.data import split
from tests import models
from tests.conftest import Exported
from tests.end_to_end.client_requests import example, examples_request
from tests.end_to_end.server_process import ROOT, Client, ServerProcess, free_port
from tests.small_exports import exporter

pytestmark = pytest.mark.slow

Row = Mapping[str, Any]
"""The features of one Example, as both protos and JSON take them."""
PEOPLE: Sequence[Row] = [
    {"age": 25.0, "workclass": "Private"},
    {"age": 61.0, "workclass": "Gov", "gain": 2.0, "hours": 60},
    {"age": 38.0, "hours": 20},
]
NUMBERS: Sequence[Row] = [{"x": 1.0}, {"x": 5.0, "x2": 3.0}]


@dataclass(frozen=True, slots=True)
class Served:
    client: Client
    rest: str

    def over_rest(self, model: str, verb: str, signature: str, rows: Sequence[Row]) -> Any:
        """The `results`."""
        body = {"signature_name": signature, "examples": [dict(row) for row in rows]}
        with urlopen(f"{self.rest}/v1/models/{model}:{verb}", json.dumps(body).encode(), timeout=60) as response:
            return json.load(response)["results"]

    def classify(self, model: str, signature: str, rows: Sequence[Row]) -> list[list[tuple[str, float]]]:
        """Labels and scores of each row, the same both ways."""
        request = examples_request(model, [example(**row) for row in rows], signature)
        found = classes(self.client.prediction.Classify(request, timeout=60).result)
        results = self.over_rest(model, "classify", signature, rows)
        assert [[(label, as_float32(score)) for label, score in row] for row in results] == found
        return found

    def regress(self, model: str, signature: str, rows: Sequence[Row]) -> list[float]:
        """A value for each row, the same both ways."""
        request = examples_request(model, [example(**row) for row in rows], signature, "regress")
        found = values(self.client.prediction.Regress(request, timeout=60).result)
        assert [*map(as_float32, self.over_rest(model, "regress", signature, rows))] == found
        return found

    def multi_inference(self, model: str, tasks: Mapping[str, str], rows: Sequence[Row]) -> Any:
        """The results of `tasks`, methods by signature."""
        request = inference_pb2.MultiInferenceRequest()
        for signature, method in tasks.items():
            task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
            task.model_spec.name, task.model_spec.signature_name = model, signature
        request.input.example_list.examples.extend(example(**row) for row in rows)
        return self.client.prediction.MultiInference(request, timeout=60).results


def as_float32(number: float) -> float:
    return float(np.float32(number))


def classes(result: Any) -> list[list[tuple[str, float]]]:
    return [[(c.label, c.score) for c in row.classes] for row in result.classifications]


def values(result: Any) -> list[float]:
    return [regression.value for regression in result.regressions]


@pytest.fixture(scope="module")
def base_paths(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    def dnn_classifier(out: Path) -> None:
        exporter().dnn_classifier(str(out))

    digits = tmp_path_factory.mktemp("trained") / "digits"
    train = [sys.executable, str(ROOT / "examples" / "digits" / "train.py"), str(digits)]
    subprocess.run(train, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    return {
        "digits": digits,
        "dnn_classifier": exported(dnn_classifier) / "dnn_classifier",
        "half_plus_two": exported(models.half_plus_two).parent,
    }


@pytest.fixture(scope="module")
def served(base_paths: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    config = tmp_path_factory.mktemp("config") / "models.config"
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }}\n'
        for name, path in base_paths.items()
    )
    config.write_text(f"model_config_list {{\n{entries}}}\n")
    port = free_port()
    with (
        ServerProcess(f"--model_config_file={config}", f"--rest_api_port={port}") as server,
        Client(server) as client,
    ):
        yield Served(client, f"http://127.0.0.1:{port}")


def close(found: Any, wanted: Any) -> None:
    """The run of several tasks at once may round otherwise than a run for each."""
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_digits_are_classified_alike_every_way(served: Served) -> None:
    held_back = split()[1]
    rows = [{"image": image.tolist()} for image in held_back.images[:50]]
    classified = served.classify("digits", "classify", rows)
    best = [int(max(row, key=lambda labelled: labelled[1])[0]) for row in classified]
    assert (np.array(best) == held_back.labels[:50]).mean() > 0.9
    (result,) = served.multi_inference("digits", {"classify": "classify"}, rows)
    multiple = classes(result.classification_result)
    assert [[label for label, _ in row] for row in multiple] == [[label for label, _ in row] for row in classified]
    close([[score for _, score in row] for row in multiple], [[score for _, score in row] for row in classified])


@pytest.mark.proves(
    "rpc PredictionService.Classify", "rpc PredictionService.Regress", "rpc PredictionService.MultiInference"
)
def test_people_are_classified_and_regressed_alike_every_way(served: Served) -> None:
    classified = served.classify("dnn_classifier", "serving_default", PEOPLE)
    regressed = served.regress("dnn_classifier", "regression", PEOPLE)
    assert [[label for label, _ in row] for row in classified] == [["<=50K", ">50K"]] * len(PEOPLE)
    # The regression is the logit of the second class.
    close([row[1][1] for row in classified], 1 / (1 + np.exp(-np.array(regressed))))
    tasks = {"serving_default": "classify", "regression": "regress"}
    first, second = served.multi_inference("dnn_classifier", tasks, PEOPLE)
    scores = [[score for _, score in row] for row in classes(first.classification_result)]
    close(scores, [[score for _, score in row] for row in classified])
    close(values(second.regression_result), regressed)
    assert [result.model_spec.signature_name for result in (first, second)] == list(tasks)


def test_numbers_are_classified_and_regressed_alike_every_way(served: Served) -> None:
    assert served.classify("half_plus_two", "classify_x_to_y", NUMBERS) == [[("", 2.5)], [("", 4.5)]]
    assert served.regress("half_plus_two", "regress_x_to_y2", NUMBERS) == [3.5, 5.5]
    tasks = {"classify_x_to_y": "classify", "regress_x_to_y2": "regress"}
    first, second = served.multi_inference("half_plus_two", tasks, NUMBERS)
    assert classes(first.classification_result) == [[("", 2.5)], [("", 4.5)]]
    assert values(second.regression_result) == [3.5, 5.5]
