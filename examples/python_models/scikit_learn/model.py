"""Any scikit-learn classifier of four features and three classes, kept by `joblib.dump(classifier, "model.joblib")`."""

from pathlib import Path

import joblib

_classifier = joblib.load(Path(__file__).with_name("model.joblib"))

signatures = {
    "serving_default": {
        "inputs": {"features": ("float32", [None, 4])},
        "outputs": {"class": ("int64", [None]), "probabilities": ("float32", [None, 3])},
    }
}


def predict(signature_name, inputs):
    features = inputs["features"]
    return {"class": _classifier.predict(features), "probabilities": _classifier.predict_proba(features)}
