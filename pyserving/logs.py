"""How log records look on stderr: lines a person can follow, or one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import datetime, timezone


class TextFormatter(logging.Formatter):
    """`2025-01-31 12:00:00.123 I manager: Successfully loaded servable version ...`, in local time."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(level)s %(short_name)s: %(message)s", "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        record.level = record.levelname[0]
        record.short_name = record.name.rpartition(".")[2]
        return super().format(record)


class JsonFormatter(logging.Formatter):
    """Keys: time (ISO 8601, UTC), level, logger, message, and exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, timezone.utc)
        entry = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


_FORMATTERS: Mapping[str, type[logging.Formatter]] = {"text": TextFormatter, "json": JsonFormatter}


_INDISCREET = ("aiobotocore", "botocore", "fsspec", "s3fs")
"""Of these libraries `debug` shows the headers and arguments of requests, credentials among them."""


def configure(log_format: str, level: str) -> None:
    """Send every record of at least `level` (`info`, say) to stderr as `log_format` (`text` or `json`) has it.

    Replaces what was configured before.
    """
    for name in _INDISCREET:
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLevelName(level.upper())))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_FORMATTERS[log_format]())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
