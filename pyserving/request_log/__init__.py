"""Requests and their answers, written down: what a model's logging_config asks for."""
