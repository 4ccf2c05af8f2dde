"""Frameworks that can run a model, each behind the Executor protocol."""
