"""Any ONNX model, kept as `model.onnx`, under its own names of inputs and outputs."""

from pathlib import Path

import onnxruntime

_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(int64)": "int64", "tensor(string)": "string"}
_session = onnxruntime.InferenceSession(str(Path(__file__).with_name("model.onnx")))


def _described(tensors):
    """A dimension with a name rather than a number is open."""
    return {t.name: (_TYPES[t.type], [d if isinstance(d, int) else None for d in t.shape]) for t in tensors}


signatures = {
    "serving_default": {"inputs": _described(_session.get_inputs()), "outputs": _described(_session.get_outputs())}
}


def predict(signature_name, inputs):
    names = [output.name for output in _session.get_outputs()]
    return dict(zip(names, _session.run(names, inputs), strict=True))
