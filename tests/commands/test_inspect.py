"""What a folder is shown to hold, without TensorFlow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from pyserving import commands, protos
from pyserving.commands import inspect
from pyserving.signature import DataType, SignatureDef, TensorInfo

SAVED_MODEL = """
meta_graphs {
  meta_info_def { tags: "serve" tensorflow_version: "2.20.0" }
  graph_def {
    node { name: "x" op: "Placeholder" }
    node { name: "y" op: "Mul" }
    library { function { node_def { name: "z" op: "Mul" } } }
  }
  signature_def { key: "__saved_model_init_op" value { outputs { key: "o" value { name: "init" } } } }
  signature_def {
    key: "scores"
    value {
      inputs { key: "x" value { name: "x:0" dtype: DT_FLOAT
               tensor_shape { dim { size: -1 } dim { size: 2 } } } }
      inputs { key: "word" value { name: "w:0" dtype: DT_STRING tensor_shape { unknown_rank: true } } }
      outputs { key: "y" value { name: "y:0" dtype: DT_INT64 tensor_shape {} } }
      method_name: "tensorflow/serving/predict"
    }
  }
}
"""


@pytest.fixture(params=["pb", "pbtxt"])
def version(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / "3"
    (folder / "variables").mkdir(parents=True)
    (folder / "variables" / "variables.index").write_bytes(b"x" * 1500)
    made = text_format.Parse(SAVED_MODEL, protos.SavedModel(), descriptor_pool=protos.pool)
    if request.param == "pb":
        (folder / "saved_model.pb").write_bytes(made.SerializeToString())
    else:
        (folder / "saved_model.pbtxt").write_text(SAVED_MODEL)
    return folder


def test_signatures_sizes_and_ops_are_shown(version: Path, capsys: Any) -> None:
    assert commands.run(["inspect", str(version.parent), "--ops"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == [str(version)]
    for line in (
        "variables 1,500",
        "MetaGraph {serve}, written by TensorFlow 2.20.0",
        "3 nodes, 2 ops",
        "Mul 2",
        "scores (tensorflow/serving/predict)",
        "input word string any w:0",
        "input x float [?, 2] x:0",
        "output y int64 [] y:0",
        'pyserving predict MODEL \'{"word": "", "x": [[0.0, 0.0]]}\' --signature scores',
    ):
        assert line.split() in lines
    assert ["__saved_model_init_op"] not in [line[:1] for line in lines]


def test_scripts_get_the_same_in_json(version: Path, capsys: Any) -> None:
    assert commands.run(["inspect", str(version), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bytes"]["variables"] == 1500
    [meta_graph] = found["meta_graphs"]
    assert (meta_graph["tags"], meta_graph["ops"]) == (["serve"], {"Mul": 2, "Placeholder": 1})
    scores = meta_graph["signatures"]["scores"]
    assert scores["inputs"]["x"] == {"tensor": "x:0", "type": "float", "shape": [-1, 2]}
    assert scores["inputs"]["word"]["shape"] is None


def test_a_sample_that_nobody_wants_to_see_is_left_out() -> None:
    signature = SignatureDef({"x": TensorInfo("x:0", DataType.DT_FLOAT, (-1, 64, 64, 3))}, {})
    assert inspect.sample(signature) is None


@pytest.mark.parametrize(
    ("file", "status"),
    [("saved_model.pb", "DATA_LOSS"), ("saved_model.pbtxt", "DATA_LOSS"), ("model.tflite", "UNIMPLEMENTED")],
)
def test_what_is_no_saved_model_is_told(tmp_path: Path, file: str, status: str, capsys: Any) -> None:
    (tmp_path / file).write_bytes(b"\x0f nothing")
    assert commands.run(["inspect", str(tmp_path)]) == commands.FAILED
    assert f"pyserving inspect: {status}: " in capsys.readouterr().err
