"""TensorFlow Serving's REST API, and what we offer beyond it."""

from pyserving.frontends.rest.api import RestApi
from pyserving.frontends.rest.inference import RestOptions

__all__ = ["RestApi", "RestOptions"]
