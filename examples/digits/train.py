"""Train a small classifier of handwritten digits in seconds and export it as SavedModel versions to serve.

    python examples/digits/train.py OUT                   OUT/1
    python examples/digits/train.py OUT --versions 1,2    OUT/1 and OUT/2: two sizes of network, two sets of weights

Plain TensorFlow, exported the way of TensorFlow 1, whose builder alone writes a signature's method name as it is given:
TensorFlow Serving's `--enable_signature_method_name_check` asks for the right one.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # steps this small are quicker on the CPU

import numpy as np
import tensorflow as tf
from data import SIDE, Digits, split
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

tf.get_logger().setLevel("ERROR")  # it calls the one way to name a tensor in a signature deprecated
v1 = tf.compat.v1
saved_model = v1.saved_model
PIXELS, CLASSES = SIDE * SIDE, 10
BATCH, LEARNING_RATE, MOMENTUM = 32, 0.05, 0.9


@dataclass(frozen=True, slots=True)
class Recipe:
    """What makes one version differ from another."""

    hidden: int
    epochs: int
    seed: int


RECIPES = {1: Recipe(hidden=24, epochs=15, seed=1), 2: Recipe(hidden=64, epochs=30, seed=2)}


class Network(tf.Module):
    """One hidden layer. Pixels are scaled inside, so that clients send them as they are."""

    def __init__(self, weights: Sequence[np.ndarray]) -> None:
        super().__init__()
        self.layers = [tf.Variable(array, name=f"layer_{i}") for i, array in enumerate(weights)]

    def logits(self, image: tf.Tensor) -> tf.Tensor:
        """float [n, 64] -> float [n, 10]."""
        w1, b1, w2, b2 = self.layers
        return tf.nn.relu(image / 16.0 @ w1 + b1) @ w2 + b2

    def weights(self) -> list[np.ndarray]:
        return [variable.numpy() for variable in self.layers]


def train(recipe: Recipe, digits: Digits) -> Network:
    """Gradient descent with momentum over shuffled batches; the seed settles the weights and the order."""
    random = np.random.default_rng(recipe.seed)
    network = Network(initial_weights(recipe, random))
    velocity = [tf.Variable(tf.zeros_like(variable)) for variable in network.layers]

    @tf.function
    def step(image: tf.Tensor, label: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(label, network.logits(image)))
        gradients = tape.gradient(loss, network.layers)
        for variable, speed, gradient in zip(network.layers, velocity, gradients, strict=True):
            speed.assign(MOMENTUM * speed - LEARNING_RATE * gradient)
            variable.assign_add(speed)

    whole = len(digits.labels) // BATCH * BATCH
    for _ in range(recipe.epochs):
        for rows in random.permutation(len(digits.labels))[:whole].reshape(-1, BATCH):
            step(tf.constant(digits.images[rows]), tf.constant(digits.labels[rows]))
    return network


def initial_weights(recipe: Recipe, random: np.random.Generator) -> list[np.ndarray]:
    def layer(inputs: int, outputs: int) -> list[np.ndarray]:
        spread = np.sqrt(2 / inputs)
        return [random.normal(0, spread, (inputs, outputs)).astype(np.float32), np.zeros(outputs, np.float32)]

    return layer(PIXELS, recipe.hidden) + layer(recipe.hidden, CLASSES)


def accuracy(network: Network, digits: Digits) -> float:
    predicted = tf.argmax(network.logits(tf.constant(digits.images)), axis=1).numpy()
    return float(np.mean(predicted == digits.labels))


def export(weights: Sequence[np.ndarray], path: Path) -> None:
    """Write a SavedModel beside `path` and rename it, so that a server that watches never sees half of it."""
    unfinished = path.with_name(f".{path.name}.unfinished-{os.getpid()}")
    with tf.Graph().as_default(), v1.Session() as session:
        network = Network(weights)
        signatures = {"serving_default": predict_signature(network), "classify": classify_signature(network)}
        session.run(v1.global_variables_initializer())
        builder = saved_model.Builder(str(unfinished))
        builder.add_meta_graph_and_variables(session, [saved_model.tag_constants.SERVING], signatures)
        builder.save()
    unfinished.rename(path)


def predict_signature(network: Network) -> SignatureDef:
    """image: float [n, 64] -> scores: float [n, 10], adding up to 1; label: int64 [n], the likeliest digit."""
    image = v1.placeholder(tf.float32, [None, PIXELS], name="image")
    logits = network.logits(image)
    return signature(
        inputs={"image": image},
        outputs={"scores": tf.nn.softmax(logits), "label": tf.argmax(logits, axis=1)},
        method_name=saved_model.signature_constants.PREDICT_METHOD_NAME,
    )


def classify_signature(network: Network) -> SignatureDef:
    """inputs: string [n], tf.Examples with `image`: 64 floats -> classes: string [n, 10], scores: float [n, 10]."""
    examples = v1.placeholder(tf.string, [None], name="examples")
    feature = tf.io.FixedLenFeature([PIXELS], tf.float32)
    scores = tf.nn.softmax(network.logits(tf.io.parse_example(examples, {"image": feature})["image"]))
    names = tf.constant([[str(digit) for digit in range(CLASSES)]])
    return signature(
        inputs={"inputs": examples},
        outputs={"classes": tf.tile(names, [tf.shape(scores)[0], 1]), "scores": scores},
        method_name=saved_model.signature_constants.CLASSIFY_METHOD_NAME,
    )


def signature(inputs: dict[str, tf.Tensor], outputs: dict[str, tf.Tensor], method_name: str) -> SignatureDef:
    def infos(tensors: dict[str, tf.Tensor]) -> dict[str, TensorInfo]:
        return {alias: saved_model.build_tensor_info(tensor) for alias, tensor in tensors.items()}

    return saved_model.build_signature_def(infos(inputs), infos(outputs), method_name)


def versions(text: str) -> list[int]:
    """`1,2` -> [1, 2]; ValueError for a version that has no recipe."""
    numbers = [int(number) for number in text.split(",")]
    if not set(numbers) <= set(RECIPES):
        raise ValueError(text)
    return numbers


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a classifier of handwritten digits and export it to serve.")
    parser.add_argument("out", type=Path, help="the folder to write the version folders into: a --model_base_path")
    parser.add_argument("--versions", type=versions, default=[1], help="of 1 and 2, separated by a comma; default 1")
    arguments = parser.parse_args()
    paths = {number: arguments.out / str(number) for number in arguments.versions}
    for path in paths.values():
        if path.exists():
            parser.error(f"{path} is there already; a served version is never written over")

    rows, held_back = split()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for number, path in paths.items():
        network = train(RECIPES[number], rows)
        export(network.weights(), path)
        right = accuracy(network, held_back)
        print(f"version {number}: {right:.1%} of {len(held_back.labels)} held-back rows right, exported to {path}")


if __name__ == "__main__":
    main()
