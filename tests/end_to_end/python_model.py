"""A model in Python: a server of nothing else starts in a second, without TensorFlow."""

from __future__ import annotations

from pathlib import Path

HALF_PLUS_TWO = """
signatures = {"serving_default": {"inputs": {"x": "float32"}, "outputs": {"y": "float32"}}}

def predict(signature_name, inputs):
    return {"y": inputs["x"] / 2 + 2}
"""


def python_model(folder: Path, source: str = HALF_PLUS_TWO, more: str = "") -> tuple[str, ...]:
    """Flags that serve `source` as version 1 of the model `m`; `more` is for its config."""
    version = folder / "m" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(source)
    config = folder / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{folder}/m" model_platform: "python" {more} }} }}'
    )
    return (f"--model_config_file={config}", "--allow_python_models")
