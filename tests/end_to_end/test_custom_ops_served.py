"""A model with an op that is compiled here: served with its library, by either flag, and refused without."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.end_to_end.client_requests import outputs, predict_request
from tests.end_to_end.server_process import Client, ServerProcess

COMPILER = shutil.which("g++")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="NO g++ HERE: nothing of --custom_op_libraries is tested end to end"),
]

OP = """
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"

REGISTER_OP("PyservingAddSeven").Input("x: float").Output("y: float")
    .SetShapeFn(tensorflow::shape_inference::UnchangedShape);

class AddSeven : public tensorflow::OpKernel {
 public:
  explicit AddSeven(tensorflow::OpKernelConstruction* construction) : OpKernel(construction) {}

  void Compute(tensorflow::OpKernelContext* context) override {
    const tensorflow::Tensor& x = context->input(0);
    tensorflow::Tensor* y = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, x.shape(), &y));
    for (int64_t i = 0; i < x.NumElements(); ++i) y->flat<float>()(i) = x.flat<float>()(i) + 7;
  }
};

REGISTER_KERNEL_BUILDER(Name("PyservingAddSeven").Device(tensorflow::DEVICE_CPU), AddSeven);
"""

EXPORT = """
import sys
import tensorflow as tf

ops = tf.load_op_library(sys.argv[1])

class AddSeven(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def serve(self, x):
        return {"y": ops.pyserving_add_seven(x=x)}

module = AddSeven()
tf.saved_model.save(module, sys.argv[2], signatures=module.serve)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the library `ops.so`, a module `own_ops` that loads it, and the model `m`."""
    made = tmp_path_factory.mktemp("custom_ops")
    (made / "ops.cc").write_text(OP)
    flags = ["-w", "-shared", "-fPIC", *tf.sysconfig.get_compile_flags(), *tf.sysconfig.get_link_flags()]
    _run(str(COMPILER), f"{made}/ops.cc", "-o", f"{made}/ops.so", *flags)
    (made / "own_ops.py").write_text(f"import tensorflow as tf\n\ntf.load_op_library({str(made / 'ops.so')!r})\n")
    # In a process of its own, so that nothing but the server can have brought the op in.
    _run(sys.executable, "-c", EXPORT, f"{made}/ops.so", f"{made}/m/1")
    return made


def _run(*command: str) -> None:
    done = subprocess.run(command, env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.proves("difference: A SavedModel with custom ops", "flag custom_op_libraries", "flag import_modules")
@pytest.mark.parametrize("flag", ["--custom_op_libraries={folder}/ops.so", "--import_modules=own_ops"])
def test_an_op_is_brought_in(folder: Path, monkeypatch: pytest.MonkeyPatch, flag: str) -> None:
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    flags = ("--model_name=m", f"--model_base_path={folder}/m", flag.format(folder=folder))
    with ServerProcess(*flags) as server, Client(server) as client:
        answer = client.prediction.Predict(predict_request("m", {"x": np.array([1, 2], np.float32)}), timeout=60)
        assert outputs(answer)["y"].tolist() == [8, 9]


def test_without_it_the_model_does_not_load(folder: Path) -> None:
    flags = ("--model_name=m", f"--model_base_path={folder}/m", "--max_num_load_retries=0")
    with ServerProcess(*flags, wait_for=None) as server:
        assert server.wait() == 255
        server.wait_for("Op type not registered 'PyservingAddSeven'")


def test_a_library_that_cannot_be_had_ends_the_start(folder: Path) -> None:
    flags = ("--model_name=m", f"--model_base_path={folder}/m", f"--custom_op_libraries={folder}/none.so")
    with ServerProcess(*flags, wait_for=None) as server:
        assert server.wait() == 255
        server.wait_for(f"--custom_op_libraries: {folder}/none.so: ")
