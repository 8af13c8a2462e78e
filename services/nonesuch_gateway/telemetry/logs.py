"""Log lines of this process, ours and those of the libraries: text for people, or one JSON object a line.

Every line that is written for a request carries its id, by a context variable that tasks and threads inherit.
"""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

LogFormat = Literal["text", "json"]

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, request_id, exception; and the fields of the record,
    if it has a dictionary `fields`.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """One line for people; only a traceback takes more."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if not message.isprintable():  # what could look like another line, or steer a terminal
            message = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
        line = f"{_time(record)} {record.levelname} {record.name}: {message}"
        if (current := request_id.get()) is not None:
            line += f" [{current}]"
        return line if not record.exc_info else f"{line}\n{self.formatException(record.exc_info)}"


def configure(form: LogFormat | None) -> None:
    """Send every log line of this process to standard error; None stands for text on a terminal, else JSON.

    The level stays what it is, or becomes INFO if nothing was configured before.
    """
    root = logging.getLogger()
    if not root.handlers:
        root.setLevel(logging.INFO)
    handler = logging.StreamHandler(sys.stderr)
    chosen = form or ("text" if sys.stderr.isatty() else "json")
    handler.setFormatter(TextFormatter() if chosen == "text" else JsonFormatter())
    root.handlers[:] = [handler]
    logging.captureWarnings(True)


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
