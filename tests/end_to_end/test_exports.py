"""Ten exports with the signatures public clients use, answered as TensorFlow's own session answers them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import Exported
from tests.end_to_end.client_requests import examples_request, outputs, predict_request
from tests.end_to_end.server_process import Client, ServerProcess
from tests.small_exports import NAMES, exporter, small_exports

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(exported: Exported) -> Path:
    return exported(small_exports)


@pytest.fixture(scope="module")
def client(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    config = tmp_path_factory.mktemp("config") / "models.config"
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" }}\n' for name in NAMES
    )
    config.write_text(f"model_config_list {{\n{entries}}}\n")
    with ServerProcess(f"--model_config_file={config}") as server, Client(server) as made:
        yield made


def reference(path: Path, signature: str, feeds: dict[str, Any]) -> dict[str, np.ndarray]:
    graph = tf.Graph()
    with tf.compat.v1.Session(graph=graph) as session, graph.as_default():
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(path))
        definition = meta.signature_def[signature]
        fetches = {alias: info.name for alias, info in definition.outputs.items()}
        return session.run(fetches, {definition.inputs[alias].name: value for alias, value in feeds.items()})


@pytest.mark.parametrize("name", NAMES)
def test_answers_equal_tensorflows_session(client: Client, folder: Path, name: str) -> None:
    for signature, first, second in exporter().samples(name):
        for feeds in (first, second):
            arrays = {
                alias: np.array(value, object) if isinstance(value, list) else value for alias, value in feeds.items()
            }
            expected = reference(folder / name / "1", signature, arrays)
            response = client.prediction.Predict(predict_request(name, arrays, signature), timeout=120)
            assert response.model_spec.signature_name == signature
            found = outputs(response)
            assert set(found) == set(expected)
            for alias, array in expected.items():
                if array.dtype.kind == "f":
                    np.testing.assert_allclose(found[alias], array, rtol=1e-4, atol=1e-4)
                else:
                    assert found[alias].tolist() == np.asarray(array).tolist()


@pytest.mark.proves("rpc PredictionService.Classify", "rpc PredictionService.Regress")
def test_dnn_classifier_classifies_and_regresses(client: Client, folder: Path) -> None:
    serialized = [feeds["inputs"][0] for feeds in exporter().samples("dnn_classifier")[0][1:]]
    examples = [tf.train.Example.FromString(one) for one in serialized]
    path = folder / "dnn_classifier" / "1"

    expected = reference(path, "serving_default", {"inputs": np.array(serialized, object)})
    answer = client.prediction.Classify(examples_request("dnn_classifier", examples), timeout=60)
    assert answer.model_spec.signature_name == "serving_default"
    for row, found in enumerate(answer.result.classifications):
        assert [c.label.encode() for c in found.classes] == expected["classes"][row].tolist()
        np.testing.assert_allclose([c.score for c in found.classes], expected["scores"][row], rtol=1e-5)

    expected = reference(path, "regression", {"inputs": np.array(serialized, object)})
    request = examples_request("dnn_classifier", examples, "regression", "regress")
    values = [r.value for r in client.prediction.Regress(request, timeout=60).result.regressions]
    np.testing.assert_allclose(values, np.ravel(expected["outputs"]), rtol=1e-5)
