"""Small models with the signatures that public clients of TensorFlow Serving call, and answers a test can work out.

What stands behind each is next to nothing; names, types, ranks and oddities are those of the exports that the clients
were written for. Each function writes one version folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tests.models import save_graph, signature

v1 = tf.compat.v1

VOCABULARY = 200


def embeddings() -> np.ndarray:
    """What text models know of each token: float32 [VOCABULARY, 2]."""
    tokens = np.arange(VOCABULARY, dtype=np.float32)
    return np.stack([np.sin(tokens), np.cos(tokens)], axis=1)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def dense(path: Path, *, weight: float = 0.1) -> None:
    """Nine numbers of a cell's picture: two classes, whose logits are 0 and `weight` times their sum.

    Its exporter wrote method names that nobody knows.
    """
    with v1.Session(graph=tf.Graph()) as session:
        keys = v1.placeholder(tf.int32, [None, 1])
        features = v1.placeholder(tf.float32, [None, 9])
        weights = v1.Variable(np.array([[0.0, weight]] * 9, np.float32))
        softmax = tf.nn.softmax(tf.matmul(features, weights))
        outputs = {"keys": tf.identity(keys), "softmax": softmax, "prediction": tf.argmax(softmax, 1)}
        inputs = {"keys": keys, "features": features}
        save_graph(path, session, {"serving_default": signature(inputs, outputs, "predictss")})


def dense_retrained(path: Path) -> None:
    """The next version of `dense`, of another opinion."""
    dense(path, weight=-0.1)


def sparse(path: Path) -> None:
    """Features by number, with weights: row by row the sum of weight times embedding, as softmax."""
    with v1.Session(graph=tf.Graph()) as session:
        keys = v1.placeholder(tf.int32, [None])
        indexs = v1.placeholder(tf.int64, [None, 2])
        ids = v1.placeholder(tf.int64, [None])
        values = v1.placeholder(tf.float32, [None])
        shape = v1.placeholder(tf.int64, [2])
        table = v1.Variable(embeddings())
        by_row = [tf.SparseTensor(indexs, of, shape) for of in (ids, values)]
        softmax = tf.nn.softmax(tf.nn.embedding_lookup_sparse(table, *by_row, combiner="sum"))
        inputs = {"keys": keys, "indexs": indexs, "ids": ids, "values": values, "shape": shape}
        outputs = {"keys": tf.identity(keys), "softmax": softmax, "prediction": tf.argmax(softmax, 1)}
        save_graph(path, session, {"serving_default": signature(inputs, outputs)})


def minimal(path: Path) -> None:
    """Twice the features, however many."""
    with v1.Session(graph=tf.Graph()) as session:
        features = v1.placeholder(tf.float32, [None])
        outputs = {"prediction": features * 2.0}
        save_graph(path, session, {"serving_default": signature({"features": features}, outputs)})


def session_bundle(path: Path) -> None:
    """What was exported before there were SavedModels."""
    path.mkdir(parents=True)
    (path / "export.meta").write_bytes(b"")


def segmentation(path: Path) -> None:
    """The strongest of three colours of each pixel.

    `images` is a tensor in the middle of the graph, behind a parser; once it is fed, `height` and `width` lead nowhere.
    """
    with v1.Session(graph=tf.Graph()) as session:
        height, width = v1.placeholder(tf.int32, name="height"), v1.placeholder(tf.int32, name="width")
        examples = v1.placeholder(tf.string, name="tf_example")
        parsed = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"]
        images = tf.identity(tf.reshape(parsed, (1, height, width, 3)), name="x")
        inputs = {"images": images, "height": height, "width": width}
        outputs = {"segmentation_map": tf.argmax(images, 3)}
        save_graph(path, session, {"predict_images": signature(inputs, outputs)}, as_text=True)


def antispam(path: Path) -> None:
    """Word vectors: 1 where the sum of their second numbers is larger than that of their first."""
    _words_model(
        path, "x", [None, None, 200], lambda logits: {"y": tf.argmax(logits, 1), "prob": tf.nn.softmax(logits)}
    )


def antispam_keras(path: Path) -> None:
    """The same as Keras exports it: one input and one output, both named after their layers."""
    _words_model(path, "conv1d_1_input", [None, 20, 200], lambda logits: {"dense_1": tf.nn.softmax(logits)})


def _words_model(path: Path, alias: str, shape: list[int | None], outputs: Callable[[Any], dict[str, Any]]) -> None:
    with v1.Session(graph=tf.Graph()) as session:
        x = v1.placeholder(tf.float32, shape)
        logits = tf.reduce_sum(x[:, :, :2], axis=1)
        save_graph(path, session, {"serving_default": signature({alias: x}, outputs(logits))})


def _colours(encoded: Any) -> Any:
    """The mean colour, 0..1, of each of some JPEG files."""

    def colour(image: Any) -> Any:
        return tf.reduce_mean(tf.cast(tf.io.decode_jpeg(image, channels=3), tf.float32), axis=[0, 1]) / 255.0

    return tf.map_fn(colour, encoded, fn_output_signature=tf.TensorSpec([3], tf.float32))


def house_numbers(path: Path) -> None:
    """JPEG files, fed behind a parser of tf.Examples; no default signature."""
    with v1.Session(graph=tf.Graph()) as session:
        examples = v1.placeholder(tf.string, [None], name="tf_example")
        features = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}
        images = tf.io.parse_example(examples, features)["image/encoded"]
        outputs = {"scores": _colours(images)}
        save_graph(path, session, {"predict_images": signature({"images": images}, outputs)})


def pictures_of_bytes(path: Path) -> None:
    """One string input, two outputs: JPEG files in, their colours out."""
    with v1.Session(graph=tf.Graph()) as session:
        image_bytes = v1.placeholder(tf.string, [None])
        colours = _colours(image_bytes)
        outputs = {"probabilities": colours, "classes": tf.argmax(colours, 1)}
        save_graph(path, session, {"serving_default": signature({"image_bytes": image_bytes}, outputs)})


def pictures_in_base64(path: Path) -> None:
    """Web-safe base64, which the graph itself decodes: how many bytes it held."""
    with v1.Session(graph=tf.Graph()) as session:
        images = v1.placeholder(tf.string, [None])
        outputs = {"size": tf.strings.length(tf.io.decode_base64(images))}
        save_graph(path, session, {"serving_default": signature({"images": images}, outputs)})


def resnet(path: Path) -> None:
    """Pictures of any size, 0..1: all the weight is on the class that their mean brightness of 1000 is."""
    with v1.Session(graph=tf.Graph()) as session:
        pictures = v1.placeholder(tf.float32, [None, None, None, 3])
        brightness = tf.cast(tf.round(tf.reduce_mean(pictures, axis=[1, 2, 3]) * 1000.0), tf.int32)
        outputs = {"activation_49": tf.one_hot(brightness, 1000)}
        save_graph(path, session, {"serving_default": signature({"input_1": pictures}, outputs)})


def digits(path: Path) -> None:
    """784 pixels in the middle of the graph: `predict_images`; by default, Examples to classify."""
    with v1.Session(graph=tf.Graph()) as session:
        examples = v1.placeholder(tf.string, [None], name="tf_example")
        parsed = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([784], tf.float32)})
        images = tf.identity(parsed["x"], name="x")
        scores = tf.nn.softmax(images[:, :10])
        values, indices = tf.nn.top_k(scores, 10)
        classes = tf.as_string(indices)
        signatures = {
            "predict_images": signature({"images": images}, {"scores": scores}),
            "serving_default": signature({"inputs": examples}, {"classes": classes, "scores": values}, "classify"),
        }
        save_graph(path, session, signatures)


def text_detector(path: Path) -> None:
    """Pictures of multiples of 32 pixels: at a quarter of the size, how bright, and four distances and an angle."""
    with v1.Session(graph=tf.Graph()) as session:
        images = v1.placeholder(tf.float32, [None, None, None, 3])
        small = tf.nn.avg_pool2d(images, 4, 4, "VALID") / 255.0
        f_score = tf.reduce_mean(small, axis=3, keepdims=True)
        outputs = {"f_score": f_score, "f_geometry": tf.tile(f_score, [1, 1, 1, 5])}
        save_graph(path, session, {"serving_default": signature({"images": images}, outputs)})


def bert_of_google(path: Path) -> None:
    """Sentences of 128 tokens. `label_ids` is what training needed; the graph does nothing with it.

    `by_example` is the flavour that takes tf.Examples as one string input.
    """
    with v1.Session(graph=tf.Graph()) as session:
        names = ("input_ids", "input_mask", "segment_ids")
        inputs = {name: v1.placeholder(tf.int32, [None, 128]) for name in names}
        table = v1.Variable(embeddings())
        examples = v1.placeholder(tf.string, [None])
        parsed = tf.io.parse_example(examples, {name: tf.io.FixedLenFeature([128], tf.int64) for name in names})
        signatures = {
            "serving_default": signature(
                {"label_ids": v1.placeholder(tf.int32, [None])} | inputs, _sentence_outputs(table, inputs)
            ),
            "by_example": signature({"examples": examples}, _sentence_outputs(table, parsed)),
        }
        save_graph(path, session, signatures)


def _sentence_outputs(table: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    logits = _sentence_logits(table, inputs["input_ids"], inputs["input_mask"])
    return {"probabilities": tf.nn.softmax(logits), "labels": tf.argmax(logits, 1)}


def _sentence_logits(table: Any, ids: Any, mask: Any) -> Any:
    weights = tf.cast(mask, tf.float32)[:, :, tf.newaxis]
    return tf.reduce_sum(tf.gather(table, ids) * weights, axis=1)


def bert_of_hugging_face(path: Path) -> None:
    """Sentences of any length, and one output."""
    with v1.Session(graph=tf.Graph()) as session:
        names = ("input_ids", "attention_mask", "token_type_ids")
        inputs = {name: v1.placeholder(tf.int32, [None, None]) for name in names}
        logits = _sentence_logits(v1.Variable(embeddings()), inputs["input_ids"], inputs["attention_mask"])
        save_graph(path, session, {"serving_default": signature(inputs, {"logits": logits})})


def bert_of_keras(path: Path) -> None:
    """Token numbers as floats, under names with a hyphen."""
    with v1.Session(graph=tf.Graph()) as session:
        tokens, segments = (v1.placeholder(tf.float32, [None, None]) for _ in range(2))
        mask = tf.ones_like(tokens) + 0.0 * segments
        logits = _sentence_logits(v1.Variable(embeddings()), tf.cast(tokens, tf.int32), mask)
        inputs = {"Input-Token": tokens, "Input-Segment": segments}
        save_graph(path, session, {"serving_default": signature(inputs, {"dense": logits})})


def sentence_encoder(path: Path) -> None:
    """Sentences as they are: their numbers of bytes, of words and of sentences, one."""
    with v1.Session(graph=tf.Graph()) as session:
        text = v1.placeholder(tf.string, [None])
        words = tf.strings.split(text).row_lengths()
        columns = [tf.strings.length(text), tf.cast(words, tf.int32), tf.ones_like(words, tf.int32)]
        outputs = {"vector": tf.cast(tf.stack(columns, axis=1), tf.float32)}
        save_graph(path, session, {"serving_default": signature({"text": text}, outputs)})


MODELS: dict[str, tuple[Callable[[Path], None], ...]] = {
    "default": (dense, dense_retrained),
    "sparse": (sparse,),
    "minimal": (minimal,),
    "session_bundle": (session_bundle,),
    "deeplab": (segmentation,),
    "antispam": (antispam,),
    "saved_model": (antispam_keras,),
    "svhn": (house_numbers,),
    "pictures": (pictures_in_base64,),
    "mobilenet": (pictures_of_bytes,),
    "resnet": (resnet,),
    "mnist": (digits,),
    "EAST": (text_detector,),
    "bert_google": (bert_of_google,),
    "bert": (bert_of_hugging_face,),
    "keras-bert": (bert_of_keras,),
    "encoder": (sentence_encoder,),
}
"""By the name that the client asks for, its versions."""
