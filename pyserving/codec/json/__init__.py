"""TensorFlow Serving's JSON: requests as arrays and Examples, answers and errors to the byte."""
