"""A graph with ops of an installed TensorFlow Text loads and answers without a flag, as in the stock server."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.client_requests import outputs, predict_request
from tests.end_to_end.server_process import Client, ServerProcess

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow_text") is None, reason="tensorflow-text is not installed here"
    ),
]

EXPORT = """
import sys
import tensorflow as tf
import tensorflow_text as text

class Tokenizer(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def serve(self, sentences):
        tokens = text.WhitespaceTokenizer().tokenize(sentences)
        return {"tokens": tokens.to_tensor(""), "count": tf.cast(tokens.row_lengths(), tf.int64)}

module = Tokenizer()
tf.saved_model.save(module, sys.argv[1], signatures=module.serve)
"""


@pytest.mark.proves("difference: TensorFlow Text and decision-forest ops")
def test_a_tokenizer_in_the_graph(tmp_path: Path) -> None:
    # In a process of its own, so that nothing but the server can have brought the ops in.
    subprocess.run(
        [sys.executable, "-c", EXPORT, str(tmp_path / "m" / "1")],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
        check=True,
        capture_output=True,
    )
    with ServerProcess("--model_name=m", f"--model_base_path={tmp_path}/m") as server, Client(server) as client:
        request = predict_request("m", {"text": np.array([b"never bet  against", b"one"], object)})
        answer = outputs(client.prediction.Predict(request, timeout=60))
        assert answer["tokens"].tolist() == [[b"never", b"bet", b"against"], [b"one", b"", b""]]
        assert answer["count"].tolist() == [3, 1]
