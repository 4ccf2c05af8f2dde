"""Request messages from bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from pyserving.errors import Internal
from pyserving.messages import Buffer

MessageT = TypeVar("MessageT", bound=Message)


def parse(message_class: Callable[[], MessageT], body: Buffer) -> MessageT:
    """The request message. Bytes that are none are INTERNAL, as gRPC answers them before a handler sees them."""
    message = message_class()
    try:
        message.ParseFromString(body if isinstance(body, bytes) else bytes(body))
    except DecodeError as error:
        raise Internal(f"Failed to parse the request as {message.DESCRIPTOR.full_name}: {error}") from None
    return message
