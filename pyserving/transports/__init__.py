"""Ports and sockets: bytes come in here and go out here. Knows messages and errors, and nothing of models."""
