#!/usr/bin/env python3
"""Build SavedModels with seeded random weights for exercising a model server.

    python export_models.py OUT [name ...]      export into OUT/<name>/1
    python export_models.py --check OUT [name]  load again, run, time, compare
    python export_models.py --small OUT [name]  same signatures, tiny weights
    python export_models.py --list

No weights are downloaded and nothing is trained.  The weights are random but
seeded, and every model is calibrated so that two different inputs give
visibly different, finite outputs.  Each function writes one model directory
and returns its path.  Signature names, aliases, dtypes and ranks follow
clients that exist in public (named in each docstring), so such a client can
be pointed at the exported model as it is.
"""

import argparse
import os
import shutil
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
F32, I32, I64, STR = tf.float32, tf.int32, tf.int64, tf.string
SMALL = False


def spec(shape, dtype, name):
    return tf.TensorSpec(shape, dtype, name=name)


def fresh(out, name, version=1):
    path = os.path.join(out, name, str(version))
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


def rnd(seed, shape, std):
    """Seeded normal initial value, the same on every machine."""
    return np.random.default_rng(seed).normal(0.0, std, shape).astype("float32")


def pictures(n, size, seed=0):
    """Synthetic pictures in 0..255: gradients, blobs and noise."""
    g = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size].astype("float32") / size
    out = []
    for _ in range(n):
        img = np.stack([g.uniform(0, 160) * x + g.uniform(0, 90) * y for _ in range(3)], -1)
        for _ in range(6):
            cx, cy, r = g.uniform(0, 1), g.uniform(0, 1), g.uniform(0.05, 0.3)
            img[(x - cx) ** 2 + (y - cy) ** 2 < r * r] = g.uniform(0, 255, 3)
        out.append(np.clip(img + g.normal(0, 8, img.shape), 0, 255))
    return np.asarray(out, "float32")


# ---------------------------------------------------------------- images


def _calibrated(build, size):
    """A keras.applications network whose batch-norm statistics are real.

    With the default statistics (mean 0, variance 1) an untrained deep network
    maps every picture to nearly the same answer; one pass in training mode
    with momentum 0 writes the statistics of a synthetic batch instead.
    """
    import keras

    keras.utils.set_random_seed(20)
    model = build(keras)
    norms = [l for l in model.layers if isinstance(l, keras.layers.BatchNormalization)]
    for l in norms:
        l.momentum = 0.0
    model(tf.constant(pictures(8, size) / 127.5 - 1.0), training=True)
    for l in norms:
        l.momentum = 0.99
    return model


def _jpeg_batch(size):
    def one(b):
        img = tf.io.decode_image(b, channels=3, expand_animations=False)
        return tf.image.resize(tf.cast(img, F32), [size, size]) / 255.0

    return lambda blobs: tf.map_fn(one, blobs, fn_output_signature=tf.TensorSpec([size, size, 3], F32))


class _KerasHolder(tf.Module):
    """Tracks only the variables: tracking the Keras object too would put a
    second copy of everything and every layer's own function into the file."""

    def __init__(self, model):
        super().__init__()
        self.vars = [v.value for v in model.variables]


def _softmax_head(logits, centre, gain):
    return tf.nn.softmax((logits - centre) * gain)


def _logit_scale(model, size):
    out = model(tf.constant(pictures(16, size, seed=1) / 127.5 - 1.0), training=False).numpy()
    centre = out.mean(0)
    return centre.astype("float32"), np.float32(3.0 / ((out - centre).std() + 1e-6))


def resnet50(out):
    """ResNet-50, 1000 classes.  For TF Serving's own resnet_client*.py and
    resnet_client.cc: alias input_1 (float, any picture size, values 0..1) to
    activation_49.  The second signature takes encoded JPEG/PNG bytes."""
    size = 64 if SMALL else 224

    def build(keras):
        if SMALL:
            return keras.applications.MobileNetV2(
                weights=None, input_shape=(size, size, 3), alpha=0.35, classifier_activation=None
            )
        return keras.applications.ResNet50(weights=None, classifier_activation=None)

    net = _calibrated(build, size)
    m = _KerasHolder(net)
    centre, gain = _logit_scale(net, size)

    def run(images):
        x = tf.image.resize(images, [size, size]) * 2.0 - 1.0
        return _softmax_head(net(x, training=False), centre, gain)

    @tf.function(input_signature=[spec([None, None, None, 3], F32, "input_1")])
    def serve(input_1):
        return {"activation_49": run(input_1)}

    decode = _jpeg_batch(size)

    @tf.function(input_signature=[spec([None], STR, "image_bytes")])
    def serve_bytes(image_bytes):
        p = run(decode(image_bytes))
        return {"probabilities": p, "classes": tf.argmax(p, -1)}

    path = fresh(out, "resnet50")
    tf.saved_model.save(m, path, signatures={"serving_default": serve, "serving_bytes": serve_bytes})
    return path


def mobilenet_v2(out):
    """MobileNetV2, 1000 classes, encoded picture in.  For REST clients that
    post {"instances": [{"b64": ...}]}: one string input, two outputs."""
    size, alpha = (64, 0.35) if SMALL else (224, 1.0)
    net = _calibrated(
        lambda k: k.applications.MobileNetV2(
            weights=None, input_shape=(size, size, 3), alpha=alpha, classifier_activation=None
        ),
        size,
    )
    m = _KerasHolder(net)
    centre, gain = _logit_scale(net, size)
    decode = _jpeg_batch(size)

    def run(images):
        return _softmax_head(net(images * 2.0 - 1.0, training=False), centre, gain)

    @tf.function(input_signature=[spec([None], STR, "image_bytes")])
    def serve(image_bytes):
        p = run(decode(image_bytes))
        return {"probabilities": p, "classes": tf.argmax(p, -1)}

    @tf.function(input_signature=[spec([None, size, size, 3], F32, "images")])
    def tensors(images):
        return {"probabilities": run(images)}

    path = fresh(out, "mobilenet_v2")
    tf.saved_model.save(m, path, signatures={"serving_default": serve, "predict_images": tensors})
    return path


def deeplab(out):
    """Segmentation in the shape of sthalles/deeplab_v3 (the freeCodeCamp
    article): TF1 builder, TEXT saved_model.pbtxt, only the signature
    predict_images and no serving_default, batch 1.  Aliases images (float
    [1,H,W,3], a tensor in the MIDDLE of the graph, behind a tf.Example
    parser), height, width (int32 [1], of unknown rank, and not reachable from
    the output once images is fed) to segmentation_map (int64 [1,H,W])."""
    width = 16 if SMALL else 48
    classes = 21
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as sess:
        h = v1.placeholder(I32, name="height")
        w = v1.placeholder(I32, name="width")
        example = v1.placeholder(STR, name="tf_example")
        parsed = tf.io.parse_example(example, {"x": tf.io.FixedLenFeature([], F32)})["x"]
        x = tf.identity(tf.reshape(parsed, (1, h, w, 3)), name="x")
        made, fill = [0], []

        def conv(t, cout, k, stride=1, rate=1, relu=True):
            made[0] += 1
            cin = int(t.shape[-1])
            v = v1.get_variable("w%d" % made[0], (k, k, cin, cout), initializer=tf.zeros_initializer())
            fill.append((v, rnd(made[0], v.shape, (2.0 / (k * k * cin)) ** 0.5)))  # not as a constant in the text file
            t = tf.nn.conv2d(t, v, stride, "SAME", dilations=rate)
            return tf.nn.relu(t) if relu else t

        t = (x - [123.68, 116.78, 103.94]) / 60.0
        t = conv(t, width, 3, 2)
        t = conv(t, 2 * width, 3, 2)
        for _ in range(4):
            t = t + 0.5 * conv(t, 2 * width, 3)
        t = conv(t, 4 * width, 3, 2)
        for rate in (2, 4):
            t = t + 0.5 * conv(t, 4 * width, 3, rate=rate)
        pooled = tf.reduce_mean(t, [1, 2], keepdims=True)
        pooled = tf.image.resize(conv(pooled, 2 * width, 1), tf.shape(t)[1:3])
        t = tf.concat([pooled, conv(t, 2 * width, 1)] + [conv(t, 2 * width, 3, rate=r) for r in (6, 12, 18)], 3)
        t = conv(conv(t, 2 * width, 1), classes, 1, relu=False)
        centre = v1.get_variable("centre", initializer=np.zeros(classes, "float32"))
        scale = v1.get_variable("scale", initializer=np.ones(classes, "float32"))
        logits = tf.image.resize((t - centre) * scale, tf.shape(x)[1:3])
        mask = tf.argmax(logits, 3, name="segmentation")
        sess.run(v1.global_variables_initializer())
        for v, value in fill:
            v.load(value, sess)
        raw = sess.run(t, {x: pictures(1, 256)}).reshape(-1, classes)
        sess.run([centre.assign(raw.mean(0)), scale.assign(1.0 / (raw.std(0) + 1e-6))])

        path = fresh(out, "deeplab")
        info = v1.saved_model.build_tensor_info
        sig = v1.saved_model.signature_def_utils.build_signature_def(
            inputs={"images": info(x), "height": info(h), "width": info(w)},
            outputs={"segmentation_map": info(mask)},
            method_name=v1.saved_model.signature_constants.PREDICT_METHOD_NAME,
        )
        b = v1.saved_model.Builder(path)
        b.add_meta_graph_and_variables(sess, ["serve"], signature_def_map={"predict_images": sig})
        b.save(as_text=True)
    return path


def east(out):
    """Scene-text detector in the shape of EAST (ResNet backbone, merged
    feature maps).  serving_default: images float [N,H,W,3] to f_score
    [N,H/4,W/4,1] and f_geometry [N,H/4,W/4,5]; H and W multiples of 32.  The
    frozen graph of the paper's code calls them input_images,
    pred_score_map/pred_geo_map: second signature 'frozen_names'."""

    def build(keras):
        if SMALL:
            base = keras.applications.MobileNetV2(
                weights=None, include_top=False, input_shape=(None, None, 3), alpha=0.35
            )
            names = ["block_3_expand_relu", "block_6_expand_relu", "block_13_expand_relu", "out_relu"]
        else:
            base = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(None, None, 3))
            names = ["conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"]
        f = [base.get_layer(n).output for n in reversed(names)]
        L = keras.layers

        class Double(L.Layer):  # UpSampling2D cannot do bilinear on unknown sizes
            def call(self, t):
                return tf.image.resize(t, tf.shape(t)[1:3] * 2)

            def compute_output_shape(self, s):
                return (s[0], s[1] and s[1] * 2, s[2] and s[2] * 2, s[3])

        g = f[0]
        for i, c in ((1, 128), (2, 64), (3, 32)):
            g = Double()(g)
            g = L.Concatenate()([g, f[i]])
            g = L.Activation("relu")(L.BatchNormalization()(L.Conv2D(c, 1, use_bias=False)(g)))
            g = L.Activation("relu")(L.BatchNormalization()(L.Conv2D(c, 3, padding="same", use_bias=False)(g)))
        g = L.Activation("relu")(L.BatchNormalization()(L.Conv2D(32, 3, padding="same", use_bias=False)(g)))

        def head(c):
            return L.BatchNormalization()(L.Conv2D(c, 1)(g))

        return keras.Model(base.input, [head(1), head(4), head(1)])

    net = _calibrated(build, 256)
    m = _KerasHolder(net)

    def run(images):
        s, d, a = net((images - [123.68, 116.78, 103.94]) / 60.0, training=False)
        geo = tf.concat([tf.sigmoid(d) * 512.0, (tf.sigmoid(a) - 0.5) * np.pi / 2], -1)
        return tf.sigmoid(s), geo

    @tf.function(input_signature=[spec([None, None, None, 3], F32, "images")])
    def serve(images):
        s, g = run(images)
        return {"f_score": s, "f_geometry": g}

    @tf.function(input_signature=[spec([None, None, None, 3], F32, "input_images")])
    def frozen(input_images):
        s, g = run(input_images)
        return {"pred_score_map": s, "pred_geo_map": g}

    path = fresh(out, "east")
    tf.saved_model.save(m, path, signatures={"serving_default": serve, "frozen_names": frozen})
    return path


# ------------------------------------------------------------------ text


class Bert(tf.Module):
    """A plain post-norm BERT encoder.  Weights come in by name (Hugging Face
    layout), so real ones can be put in too (see convert_real_models.py)."""

    def __init__(self, get, layers, heads):
        super().__init__()
        self.heads = heads
        self.v = {}
        emb = "embeddings."
        for k in (
            "word_embeddings.weight",
            "position_embeddings.weight",
            "token_type_embeddings.weight",
            "LayerNorm.weight",
            "LayerNorm.bias",
        ):
            self._var(get, emb + k)
        for i in range(layers):
            for k in (
                "attention.self.query",
                "attention.self.key",
                "attention.self.value",
                "attention.output.dense",
                "attention.output.LayerNorm",
                "intermediate.dense",
                "output.dense",
                "output.LayerNorm",
            ):
                for part in (".weight", ".bias"):
                    self._var(get, "encoder.layer.%d.%s%s" % (i, k, part))
        for part in (".weight", ".bias"):
            self._var(get, "pooler.dense" + part)
        self.layers = layers

    def _var(self, get, name):
        value = get(name)
        if value.ndim == 2 and "embeddings" not in name:
            value = value.T  # torch keeps [out, in]
        self.v[name.replace(".", "/")] = tf.Variable(value, name=name)

    def w(self, *name):
        return self.v["/".join(name).replace(".", "/")]

    def dense(self, x, name):
        return tf.einsum("bld,de->ble", x, self.w(name, "weight")) + self.w(name, "bias")

    def norm(self, x, name):
        mean, var = tf.nn.moments(x, [-1], keepdims=True)
        return (x - mean) * tf.math.rsqrt(var + 1e-12) * self.w(name, "weight") + self.w(name, "bias")

    def __call__(self, ids, mask, types):
        length = tf.shape(ids)[1]
        x = (
            tf.gather(self.w("embeddings.word_embeddings.weight"), ids)
            + self.w("embeddings.position_embeddings.weight")[tf.newaxis, :length]
            + tf.gather(self.w("embeddings.token_type_embeddings.weight"), types)
        )
        x = self.norm(x, "embeddings.LayerNorm")
        hide = (1.0 - tf.cast(mask, F32))[:, tf.newaxis, tf.newaxis, :] * -1e4
        depth = x.shape[-1] // self.heads

        def split(t):
            return tf.transpose(tf.reshape(t, [tf.shape(t)[0], -1, self.heads, depth]), [0, 2, 1, 3])

        for i in range(self.layers):
            p = "encoder.layer.%d." % i
            q, k, v = (split(self.dense(x, p + "attention.self." + n)) for n in ("query", "key", "value"))
            a = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) / depth**0.5 + hide)
            c = tf.reshape(tf.transpose(tf.matmul(a, v), [0, 2, 1, 3]), tf.shape(x))
            x = self.norm(x + self.dense(c, p + "attention.output.dense"), p + "attention.output.LayerNorm")
            f = tf.nn.gelu(self.dense(x, p + "intermediate.dense"))
            x = self.norm(x + self.dense(f, p + "output.dense"), p + "output.LayerNorm")
        pooled = tf.tanh(tf.matmul(x[:, 0], self.w("pooler.dense.weight")) + self.w("pooler.dense.bias"))
        return x, pooled


def bert_base(out, layers=12, hidden=768, heads=12, vocab=30522, seq=128):
    """BERT encoder with a 2-way classifier.  serving_default: Hugging Face
    names input_ids, attention_mask, token_type_ids (int32 [-1,-1]) to logits,
    pooler_output, last_hidden_state.  Signature 'classifier': the names of
    google-research/bert exports (fixed length 128) with label_ids, which the
    graph does not use, to labels and probabilities."""
    if SMALL:
        layers, hidden, heads, vocab = 2, 64, 2, 2000
    shapes = {
        "word_embeddings": (vocab, hidden),
        "position_embeddings": (512, hidden),
        "token_type_embeddings": (2, hidden),
        "intermediate.dense.weight": (4 * hidden, hidden),
        "intermediate.dense.bias": (4 * hidden,),
    }
    count = [100]

    def get(name):
        count[0] += 1
        if name.endswith("LayerNorm.weight"):
            return np.ones(hidden, "float32")
        for k, s in shapes.items():
            if k in name:
                return rnd(count[0], s, 0.02 if len(s) == 1 else (0.5 if "embeddings" in k else s[1] ** -0.5))
        if name.endswith("bias"):
            return rnd(count[0], (hidden,), 0.02)
        if ".output.dense" in name and "attention" not in name:
            return rnd(count[0], (hidden, 4 * hidden), (4 * hidden) ** -0.5)
        return rnd(count[0], (hidden, hidden), hidden**-0.5 * (2.0 if "query" in name or "key" in name else 1.0))

    bert = Bert(get, layers, heads)
    bert.cls = tf.Variable(rnd(99, (hidden, 2), 3.0 * hidden**-0.5))

    @tf.function(
        input_signature=[spec([None, None], I32, n) for n in ("input_ids", "attention_mask", "token_type_ids")]
    )
    def serve(input_ids, attention_mask, token_type_ids):
        x, p = bert(input_ids, attention_mask, token_type_ids)
        return {"logits": tf.matmul(p, bert.cls), "pooler_output": p, "last_hidden_state": x}

    @tf.function(
        input_signature=[spec([None], I32, "label_ids")]
        + [spec([None, seq], I32, n) for n in ("input_ids", "input_mask", "segment_ids")]
    )
    def classifier(label_ids, input_ids, input_mask, segment_ids):
        _, p = bert(input_ids, input_mask, segment_ids)
        prob = tf.nn.softmax(tf.matmul(p, bert.cls))
        return {"probabilities": prob, "labels": tf.argmax(prob, -1, output_type=I32)}

    path = fresh(out, "bert_base")
    tf.saved_model.save(bert, path, signatures={"serving_default": serve, "classifier": classifier})
    return path


def text_classifier(out, buckets=4096, dim=32):
    """Raw strings in: lower-cased words and word pairs are hashed in the
    graph.  serving_default: text (string [-1]) to label (string), probabilities
    and token_count (int32): three dtypes in one answer."""
    m = tf.Module()
    labels = ["sports", "finance", "science", "spam"]
    m.emb = tf.Variable(rnd(1, (buckets, dim), 1.0))
    m.out = tf.Variable(rnd(2, (dim, len(labels)), 2.5 * dim**-0.5))
    m.names = tf.constant(labels)

    @tf.function(input_signature=[spec([None], STR, "text")])
    def serve(text):
        words = tf.strings.split(tf.strings.lower(text, encoding="utf-8"))
        pairs = tf.strings.ngrams(words, 2)
        ids = tf.strings.to_hash_bucket_fast(tf.concat([words, pairs], 1), buckets)
        bag = tf.reduce_sum(tf.gather(m.emb, ids), 1)
        bag = bag * tf.math.rsqrt(tf.cast(tf.maximum(ids.row_lengths(), 1), F32))[:, tf.newaxis]
        p = tf.nn.softmax(tf.matmul(bag, m.out))
        return {
            "label": tf.gather(m.names, tf.argmax(p, -1)),
            "probabilities": p,
            "token_count": tf.cast(words.row_lengths(), I32),
        }

    path = fresh(out, "text_classifier")
    tf.saved_model.save(m, path, signatures={"serving_default": serve})
    return path


def antispam_rnn(out, dim=200, units=64):
    """The RNN that text-antispam's engine.py/serving.py gateway calls: alias x
    (float [1, words, 200]) to y (int64 [1], read as y.int64_val) and prob.
    The time axis is dynamic: requests of different length do not stack."""
    m = tf.Module()
    m.k = tf.Variable(rnd(1, (dim, 4 * units), dim**-0.5))
    m.r = tf.Variable(rnd(2, (units, 4 * units), units**-0.5))
    m.o = tf.Variable(rnd(3, (units, 2), 4.0 * units**-0.5))

    @tf.function(input_signature=[spec([None, None, dim], F32, "x")])
    def serve(x):
        zeros = tf.zeros([tf.shape(x)[0], units])

        def step(state, t):
            h, c = state
            i, f, g, o = tf.split(tf.matmul(t, m.k) + tf.matmul(h, m.r), 4, 1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            return tf.sigmoid(o) * tf.tanh(c), c

        n = tf.shape(x)[1]

        def body(i, h, c):
            return (i + 1, *tuple(step((h, c), x[:, i])))

        _, h, _ = tf.while_loop(
            lambda i, h, c: i < n,
            body,
            (0, zeros, zeros),
            shape_invariants=(tf.TensorShape([]),) + (tf.TensorShape([None, units]),) * 2,
        )
        p = tf.nn.softmax(tf.matmul(h, m.o))
        return {"y": tf.argmax(p, -1), "prob": p}

    path = fresh(out, "antispam_rnn")
    tf.saved_model.save(m, path, signatures={"serving_default": serve})
    return path


# ------------------------------------------------- tables, tf.Example, CTR


def dnn_classifier(out):
    """Census-like table model that parses tf.Example (Classify, Regress and
    MultiInference RPCs).  serving_default: method classify, alias inputs to
    classes (string [-1,2]) and scores; 'regression': method regress, inputs to
    outputs [-1,1]; 'predict': alias examples to five outputs.  Feature age
    has no default, so an Example without it is an error; the rest may miss."""
    m = tf.Module()
    jobs = ["Private", "Gov", "Self", "None"]
    m.table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.constant(jobs), tf.range(4, dtype=I64)), 4
    )
    m.emb = tf.Variable(rnd(1, (5, 8), 1.0))
    m.w1 = tf.Variable(rnd(2, (8 + 3, 32), 0.5))
    m.w2 = tf.Variable(rnd(3, (32, 16), 0.3))
    m.w3 = tf.Variable(rnd(4, (16, 1), 0.5))

    def net(examples):
        f = tf.io.parse_example(
            examples,
            {
                "age": tf.io.FixedLenFeature([1], F32),
                "hours": tf.io.FixedLenFeature([1], I64, default_value=[40]),
                "gain": tf.io.FixedLenFeature([1], F32, default_value=[0.0]),
                "workclass": tf.io.VarLenFeature(STR),
            },
        )
        ids = m.table.lookup(tf.sparse.to_dense(f["workclass"], default_value=""))
        cats = tf.reduce_sum(tf.gather(m.emb, ids), 1)
        x = tf.concat([cats, f["age"] / 40 - 1, tf.cast(f["hours"], F32) / 40 - 1, f["gain"]], 1)
        x = tf.nn.relu(tf.matmul(tf.nn.relu(tf.matmul(x, m.w1)), m.w2))
        z = tf.matmul(x, m.w3)
        return z, tf.concat([tf.sigmoid(-z), tf.sigmoid(z)], 1)

    def names(p):
        return tf.tile(tf.constant([["<=50K", ">50K"]]), [tf.shape(p)[0], 1])

    @tf.function(input_signature=[spec([None], STR, "inputs")])
    def classify(inputs):
        _, p = net(inputs)
        return {"classes": names(p), "scores": p}

    @tf.function(input_signature=[spec([None], STR, "inputs")])
    def regress(inputs):
        return {"outputs": net(inputs)[0]}

    @tf.function(input_signature=[spec([None], STR, "examples")])
    def predict(examples):
        z, p = net(examples)
        c = tf.argmax(p, -1)
        return {
            "logits": z,
            "logistic": p[:, 1:],
            "probabilities": p,
            "class_ids": c[:, tf.newaxis],
            "classes": tf.gather(["<=50K", ">50K"], c)[:, tf.newaxis],
        }

    path = fresh(out, "dnn_classifier")
    tf.saved_model.save(m, path, signatures={"serving_default": classify, "regression": regress, "predict": predict})
    # tf.saved_model.save marks every signature as predict; put the RPC names in.
    u = v1.saved_model.signature_def_utils.MethodNameUpdater(path)
    c = v1.saved_model.signature_constants
    u.replace_method_name("serving_default", c.CLASSIFY_METHOD_NAME, ["serve"])
    u.replace_method_name("regression", c.REGRESS_METHOD_NAME, ["serve"])
    u.save()
    return path


def sparse_classifier(out, features=124):
    """libSVM-style sparse model of tensorflow_template_application (Python,
    Go, Java and C++ clients, model name 'sparse'): keys int32 [-1], indexs
    int64 [-1,2], ids int64 [-1], values float [-1], shape int64 [2].  The
    first dimensions differ between inputs, so it must not be batched."""
    m = tf.Module()
    m.emb = tf.Variable(rnd(1, (features, 32), 1.0))
    m.w = tf.Variable(rnd(2, (32, 2), 0.06))

    @tf.function(
        input_signature=[
            spec([None], I32, "keys"),
            spec([None, 2], I64, "indexs"),
            spec([None], I64, "ids"),
            spec([None], F32, "values"),
            spec([2], I64, "shape"),
        ]
    )
    def serve(keys, indexs, ids, values, shape):
        def sp(v):
            return tf.SparseTensor(indexs, v, shape)

        h = tf.nn.relu(tf.nn.embedding_lookup_sparse(m.emb, sp(ids), sp(values), combiner="sum"))
        p = tf.nn.softmax(tf.matmul(h, m.w))
        return {"keys": tf.identity(keys), "softmax": p, "prediction": tf.argmax(p, -1)}

    path = fresh(out, "sparse_classifier")
    tf.saved_model.save(m, path, signatures={"serving_default": serve})
    return path


def wide_deep_ctr(out, buckets=20000, dim=16):
    """Click prediction with string columns: user, item, city (string [-1]),
    tags (string [-1,-1], empty string = padding) and dense (float [-1,13]) to
    ctr [-1,1] and logit.  Wide part on hashed crosses, deep part on hashed
    embeddings."""
    if SMALL:
        buckets = 500
    m = tf.Module()
    m.wide = tf.Variable(rnd(1, (buckets,), 0.5))
    m.emb = tf.Variable(rnd(2, (buckets, dim), 0.5))
    m.w1 = tf.Variable(rnd(3, (4 * dim + 13, 64), 0.2))
    m.w2 = tf.Variable(rnd(4, (64, 1), 0.3))

    @tf.function(
        input_signature=[
            spec([None], STR, "user"),
            spec([None], STR, "item"),
            spec([None], STR, "city"),
            spec([None, None], STR, "tags"),
            spec([None, 13], F32, "dense"),
        ]
    )
    def serve(user, item, city, tags, dense):
        def h(prefix, t):
            return tf.strings.to_hash_bucket_fast(tf.strings.join([prefix, t]), buckets)

        keep = tf.cast(tf.not_equal(tags, ""), F32)[:, :, tf.newaxis]
        bag = tf.reduce_sum(tf.gather(m.emb, h("t:", tags)) * keep, 1)
        deep = tf.concat(
            [
                tf.gather(m.emb, h("u:", user)),
                tf.gather(m.emb, h("i:", item)),
                tf.gather(m.emb, h("c:", city)),
                bag,
                tf.math.asinh(dense),
            ],
            1,
        )
        deep = tf.matmul(tf.nn.relu(tf.matmul(deep, m.w1)), m.w2)
        cross = tf.gather(m.wide, h("ui:", tf.strings.join([user, item], "|")))
        z = deep + (cross + tf.gather(m.wide, h("ic:", tf.strings.join([item, city], "|"))))[:, tf.newaxis]
        return {"ctr": tf.sigmoid(z), "logit": z}

    path = fresh(out, "wide_deep_ctr")
    tf.saved_model.save(m, path, signatures={"serving_default": serve})
    return path


MODELS = {
    f.__name__: f
    for f in (
        resnet50,
        mobilenet_v2,
        deeplab,
        east,
        bert_base,
        text_classifier,
        antispam_rnn,
        dnn_classifier,
        sparse_classifier,
        wide_deep_ctr,
    )
}


# --------------------------------------------------------------- checking


def example(**kw):
    e = tf.train.Example()
    for k, v in kw.items():
        f = e.features.feature[k]
        if isinstance(v, float):
            f.float_list.value.append(v)
        elif isinstance(v, int):
            f.int64_list.value.append(v)
        else:
            f.bytes_list.value.append(v.encode())
    return e.SerializeToString()


def samples(name):
    """(signature, first feed, second feed, batch size) for a model."""
    p = pictures(2, 256, 7)
    jpg = [tf.io.encode_jpeg(tf.cast(i, tf.uint8)).numpy() for i in p]
    g = np.random.default_rng(3)
    top = 2000 if SMALL else 30522

    def ids(n):
        return {
            "a": g.integers(1, top, (1, n), dtype=np.int32),
            "m": np.ones((1, n), np.int32),
            "z": np.zeros((1, n), np.int32),
        }

    def hf():
        d = ids(64)
        return {"input_ids": d["a"], "attention_mask": d["m"], "token_type_ids": d["z"]}

    def goog():
        d = ids(128)
        return {"label_ids": np.zeros(1, np.int32), "input_ids": d["a"], "input_mask": d["m"], "segment_ids": d["z"]}

    def sparse():
        n = 14
        idx = np.array([[r, c] for r in range(2) for c in range(n)], np.int64)
        return {
            "keys": np.array([1, 2], np.int32),
            "indexs": idx,
            "ids": g.integers(0, 124, 2 * n),
            "values": np.ones(2 * n, np.float32),
            "shape": np.array([2, 124], np.int64),
        }

    def ctr():
        return {
            "user": ["u%d" % g.integers(1000)],
            "item": ["i%d" % g.integers(1000)],
            "city": ["c%d" % g.integers(50)],
            "tags": [["a", "t%d" % g.integers(50), ""]],
            "dense": g.normal(size=(1, 13)).astype("float32"),
        }

    ex = [example(age=25.0, workclass="Private"), example(age=61.0, workclass="Gov", gain=2.0, hours=60)]
    size = np.array([256], np.int32)
    small = tf.image.resize(p, [64, 64] if SMALL else [224, 224]).numpy() / 255
    return {
        "resnet50": [
            ("serving_default", {"input_1": p[:1] / 255}, {"input_1": p[1:] / 255}),
            ("serving_bytes", {"image_bytes": jpg[:1]}, {"image_bytes": jpg[1:]}),
        ],
        "mobilenet_v2": [
            ("serving_default", {"image_bytes": jpg[:1]}, {"image_bytes": jpg[1:]}),
            ("predict_images", {"images": small[:1]}, {"images": small[1:]}),
        ],
        "deeplab": [
            (
                "predict_images",
                {"images": p[:1], "height": size, "width": size},
                {"images": p[1:], "height": size, "width": size},
            )
        ],
        "east": [
            ("serving_default", {"images": p[:1]}, {"images": p[1:]}),
            ("frozen_names", {"input_images": p[:1]}, {"input_images": p[1:]}),
        ],
        "bert_base": [("serving_default", hf(), hf()), ("classifier", goog(), goog())],
        "text_classifier": [
            ("serving_default", {"text": ["the match ended in a draw"]}, {"text": ["buy cheap shares now"]})
        ],
        "antispam_rnn": [
            (
                "serving_default",
                {"x": g.normal(size=(1, 9, 200)).astype("float32")},
                {"x": g.normal(size=(1, 5, 200)).astype("float32")},
            )
        ],
        "dnn_classifier": [
            ("serving_default", {"inputs": ex[:1]}, {"inputs": ex[1:]}),
            ("regression", {"inputs": ex[:1]}, {"inputs": ex[1:]}),
            ("predict", {"examples": ex[:1]}, {"examples": ex[1:]}),
        ],
        "sparse_classifier": [("serving_default", sparse(), sparse())],
        "wide_deep_ctr": [("serving_default", ctr(), ctr())],
    }[name]


def size_mb(path):
    return sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(path) for f in fs) / 2**20


def check(path, cases, repeat=10):
    """Load the way TF Serving does (graph and session) and with
    tf.saved_model.load; run; fail if the two disagree, if an output is not
    finite, or if nothing changes between two inputs."""
    t = time.perf_counter()
    sess = v1.Session(graph=tf.Graph())
    with sess.graph.as_default():
        meta = v1.saved_model.load(sess, ["serve"], path)
    loaded = time.perf_counter() - t
    try:
        two = tf.saved_model.load(path)
        note = "both loaders"
    except Exception as e:  # some real exports only load as a graph
        two, note = None, "tf.saved_model.load FAILS: {}".format(str(e).replace("\n", " ")[:90])
    print(f"{path}  {size_mb(path):.1f} MB  load {loaded:.2f}s  {note}")
    for sig, a, b in cases:
        sd = meta.signature_def[sig]
        fetch = {k: v.name for k, v in sd.outputs.items()}

        def feed(f):
            return {sd.inputs[k].name: v for k, v in f.items()}

        r1, r2 = sess.run(fetch, feed(a)), sess.run(fetch, feed(b))
        ts = []
        for _ in range(repeat):
            t = time.perf_counter()
            sess.run(fetch, feed(a))
            ts.append(time.perf_counter() - t)
        moved = False
        for k, v in sorted(r1.items()):
            if v.dtype.kind == "f":
                assert np.isfinite(v).all(), (sig, k)
            moved |= v.shape != r2[k].shape or not (v == r2[k]).all()
            print(
                "   %-16s %-18s %-8s %-18s std %-8s %s"
                % (
                    sig,
                    k,
                    "string" if v.dtype == object else v.dtype,
                    v.shape,
                    f"{v.std():.4f}" if v.dtype.kind in "fi" else "-",
                    v.ravel()[:3].tolist(),
                )
            )
        assert moved, f"{sig} does not react to its input"
        print("   %-16s median %.2f ms for one call" % (sig, 1e3 * float(np.median(ts))))
        if two is not None:
            got = two.signatures[sig](**{k: tf.constant(v) for k, v in a.items()})
            for k, v in got.items():
                v = v.numpy()
                ok = np.allclose(v, r1[k], atol=1e-4) if v.dtype.kind == "f" else (v == r1[k]).all()
                assert ok, f"loaders disagree on {sig}/{k}"
    sess.close()


def main(argv=None):
    global SMALL
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("out", nargs="?")
    p.add_argument("names", nargs="*")
    p.add_argument("--small", action="store_true")
    p.add_argument("--check", action="store_true")
    p.add_argument("--list", action="store_true")
    a = p.parse_args(argv)
    SMALL = a.small
    if a.list or not a.out:
        for n, f in MODELS.items():
            print("%-18s %s" % (n, " ".join(f.__doc__.split())[:100]))
        return 0
    for n in a.names or MODELS:
        if a.check:
            check(os.path.join(a.out, n, "1"), samples(n))
        else:
            t = time.perf_counter()
            path = MODELS[n](a.out)
            print(f"{path}  {size_mb(path):.1f} MB  {time.perf_counter() - t:.1f}s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
