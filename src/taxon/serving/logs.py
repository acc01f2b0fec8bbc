"""Structured logs: one JSON object a line, with the request's id where there is one."""

from __future__ import annotations

import contextvars
import json
import logging
import os
import queue
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

from taxon.core.errors import ConfigError
from taxon.core.text import one_line

request_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)
_STANDARD_ERROR = 2
_MOST_LINES = 10_000  # that wait to be written
_LAST_SECONDS = 1.0  # for what waits at the end
SERVER_LOGGERS = ("taxon", "taxon.access", "uvicorn.error")
# What a record has of its own; anything else was given with `extra`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time, level, logger, message, request_id, and what was given
    with `extra`; an exception as text.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (current := request_id.get()) is not None:
            line["request_id"] = current
        line |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class LineFormatter(logging.Formatter):
    """A record as plain text; what a stranger sent cannot begin another line in it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the line, an exception's text not yet after it."""
        return one_line(super().formatMessage(record))


class PatientHandler(logging.Handler):
    """A handler that stops no answer: a thread of its own writes, and what cannot be written, or
    waits behind too much that nobody reads, is dropped. The next line that gets through says how
    many were.

    Args:
        descriptor: of the file to write to.

    Attributes:
        dropped: lines that this process lost.
    """

    dropped = 0
    _counting = threading.Lock()

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: queue.Queue[str | None] = queue.Queue(_MOST_LINES)
        self._told = PatientHandler.dropped
        self._thread = threading.Thread(target=self._write, name="taxon-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Have a line written; formatted here, where the request is known that it is of."""
        try:
            self._lines.put_nowait(self.format(record))
        except Exception:  # as every handler of logging's does
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Count a line that was lost."""
        with PatientHandler._counting:
            PatientHandler.dropped += 1

    def close(self) -> None:
        """Have what waits written, for a moment: nobody may read it."""
        with suppress(queue.Full):
            self._lines.put(None, timeout=_LAST_SECONDS)
            self._thread.join(_LAST_SECONDS)
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            lost = PatientHandler.dropped - self._told
            record = logging.makeLogRecord(
                {"name": "taxon.serving", "levelname": "WARNING", "msg": f"{lost} lines were lost"}
            )
            text = f"{self.format(record)}\n{line}\n" if lost else f"{line}\n"
            try:
                # Not by way of `sys.stderr`, whose lock would keep this process from ending.
                os.write(self._descriptor, text.encode(errors="backslashreplace"))
                self._told += lost
            except OSError:
                self.handleError(record)


def log_format_of(word: str) -> Literal["text", "json"]:
    """Check --log-format.

    Raises:
        ConfigError: another word.
    """
    if word not in ("text", "json"):
        raise ConfigError(f"--log-format is text or json, received '{word}'")
    return "json" if word == "json" else "text"


def install_logs(*, as_json: bool, access: bool) -> None:
    """Send the server's logs to the standard error.

    Args:
        as_json: one JSON object a line; else plain text.
        access: also a line for each request.
    """
    handler = PatientHandler(_STANDARD_ERROR)
    handler.setFormatter(JsonFormatter() if as_json else LineFormatter())
    logging.getLogger().handlers = [handler]  # what libraries say too is in one form
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # its warnings are 400s
    for name in SERVER_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler] if name != "taxon.access" else []
        logger.propagate = name == "taxon.access"  # to "taxon"
        logger.setLevel(logging.INFO)
    logging.getLogger("taxon.access").setLevel(logging.INFO if access else logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
