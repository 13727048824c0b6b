"""Logs on stderr: our own lines, and of the libraries only what a user must know."""

from __future__ import annotations

import logging
import sys
import time


class _Elapsed(logging.Formatter):
    """Seconds since the command began, then the message; the level where it is a warning or worse."""

    _started = time.monotonic()

    def format(self, record: logging.LogRecord) -> str:
        elapsed = time.monotonic() - self._started
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return f"{elapsed:6.1f} s  {level}{record.getMessage()}"


def set_up_logs(level: int) -> None:
    """Send the ``unroll`` loggers to stderr, once; Prefect's handler, if it is there already, stays."""
    logger = logging.getLogger("unroll")
    logger.setLevel(level)
    logger.propagate = False
    for handler in list(logger.handlers):
        if isinstance(handler.formatter, _Elapsed):
            logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Elapsed())
    logger.addHandler(handler)


def quiet_libraries() -> None:
    """Keep Prefect's and MLflow's own lines off the terminal; they stay in their pages. Call after importing them."""
    from prefect.logging.handlers import PrefectConsoleHandler

    known = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict)]
    for candidate in [logging.root, *known]:
        for handler in list(candidate.handlers):
            if isinstance(handler, PrefectConsoleHandler):
                candidate.removeHandler(handler)
    # without any handler, Python's last resort would print warnings bare
    logging.root.addHandler(logging.NullHandler())
    for name in ("mlflow", "alembic", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)
