"""The examples of Python models answer as the libraries themselves do."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pyserving.executors.executor import Executor, open_executor

EXAMPLES = Path(__file__).parents[2] / "examples" / "python_models"
pytestmark = pytest.mark.slow


def answer(executor: Executor, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of `serving_default`."""
    signature = executor.signature_defs["serving_default"]
    plan = executor.plan(
        tuple(signature.inputs[alias].name for alias in inputs),
        tuple(info.name for info in signature.outputs.values()),
    )
    return dict(zip(signature.outputs, plan.ways[0].run(*inputs.values()), strict=True))


def test_scikit_learn(tmp_path):
    joblib = pytest.importorskip("joblib")
    datasets = pytest.importorskip("sklearn.datasets")
    from sklearn.ensemble import RandomForestClassifier

    features, classes = datasets.load_iris(return_X_y=True)
    classifier = RandomForestClassifier(10, random_state=0).fit(features, classes)
    joblib.dump(classifier, tmp_path / "model.joblib")
    shutil.copy(EXAMPLES / "scikit_learn" / "model.py", tmp_path)
    executor = open_executor("python", str(tmp_path))
    got = answer(executor, {"features": features[::10].astype(np.float32)})
    executor.close()
    assert got["class"].tolist() == classifier.predict(features[::10]).tolist()
    np.testing.assert_allclose(got["probabilities"], classifier.predict_proba(features[::10]), rtol=1e-6)


def test_onnx(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    tensor, rows = onnx.helper.make_tensor_value_info, "rows"
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["xw"]), onnx.helper.make_node("Relu", ["xw"], ["y"])],
        "layer",
        [tensor("x", onnx.TensorProto.FLOAT, [rows, 2])],
        [tensor("y", onnx.TensorProto.FLOAT, [rows, 3])],
        [onnx.numpy_helper.from_array(np.array([[1, -1, 2], [0, 1, -1]], np.float32), "w")],
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), str(tmp_path / "model.onnx"))
    shutil.copy(EXAMPLES / "onnx" / "model.py", tmp_path)
    executor = open_executor("python", str(tmp_path))
    assert executor.signature_defs["serving_default"].inputs["x"].shape == (-1, 2)
    got = answer(executor, {"x": np.array([[1, 2], [3, 1]], np.float32)})
    executor.close()
    assert got["y"].tolist() == [[1, 1, 0], [3, 0, 5]]
