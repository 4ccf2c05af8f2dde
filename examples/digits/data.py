"""The handwritten digits of scikit-learn, and the one split of them that training, client and tests share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits

SIDE = 8
"""Pictures are SIDE x SIDE pixels in a row of SIDE * SIDE floats, 0 (paper) to 16 (ink)."""
HELD_BACK = 5
"""Every so many rows, one is held back from training."""


@dataclass(frozen=True, slots=True)
class Digits:
    images: np.ndarray
    """float32 [n, 64]."""
    labels: np.ndarray
    """int64 [n], 0 to 9."""


def split() -> tuple[Digits, Digits]:
    """Rows to train on (1437) and rows held back from training (360); the same ones on every machine."""
    images, labels = load_digits(return_X_y=True)
    held_back = np.arange(len(labels)) % HELD_BACK == 0
    return _rows(images, labels, ~held_back), _rows(images, labels, held_back)


def picture(image: np.ndarray) -> str:
    """One row of pixels as eight lines of characters, two to a pixel."""
    ink = " .:-=+*#@"
    lines = image.reshape(SIDE, SIDE).astype(int) // 2
    return "\n".join("".join(ink[pixel] * 2 for pixel in line).rstrip() for line in lines)


def _rows(images: np.ndarray, labels: np.ndarray, chosen: np.ndarray) -> Digits:
    return Digits(images[chosen].astype(np.float32), labels[chosen].astype(np.int64))
