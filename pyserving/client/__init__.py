"""A client of TensorFlow Serving's gRPC services, on whichever server: NumPy arrays in and out, no TensorFlow.

from pyserving.client import Client

with Client("localhost:8500") as client:
    outputs = client.predict("half_plus_two", {"x": [1.0, 2.0, 5.0]})
"""

from pyserving.client.channel import Tls
from pyserving.client.client import Client, ModelMetadata, VersionStatus

__all__ = ["Client", "ModelMetadata", "Tls", "VersionStatus"]
