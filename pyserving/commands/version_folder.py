"""Which folder a person means who names a model's."""

from __future__ import annotations

from pathlib import Path

from pyserving.errors import NotFound

_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt", "model.tflite", "model.py")


def version_folder(path: Path) -> Path:
    """The folder of a version: `path`, or the newest that lies in it. NotFound when it is neither, OSError for none."""
    if any((path / file).exists() for file in _MODEL_FILES):
        return path
    versions = [child for child in path.iterdir() if child.name.isdecimal() and child.is_dir()]
    if not versions:
        raise NotFound(f"{path} holds neither a model nor versions of one")
    return max(versions, key=lambda child: int(child.name))
