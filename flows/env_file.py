"""The file `.env`: the secrets of the stack, made at random, kept from other eyes, never in the repository."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from unroll.errors import ConfigError
from unroll.files import sync_path, writing

DEFAULT_PATH = Path(".env")
USER = "unroll"
"""The one user name of the stack, in PostgreSQL, Prefect and MLflow."""

HEADING = """\
# Secrets of Unroll's stack, made by `unroll doctor --make-env`. Whoever reads this file can use every service.
# Variables of the shell go before this file. Optional, with their defaults:
# UNROLL_PREFECT_PORT=4200  UNROLL_MLFLOW_PORT=5000  UNROLL_SERVE_PORT=8000  UNROLL_POSTGRES_PORT=5432
# UNROLL_WEBHOOK_URL=
# UNROLL_ALERT_COMMAND='mail -s "$UNROLL_ALERT_SUBJECT" team@example.org'   in single quotes, variables without braces
# UNROLL_TORCH_INDEX=   of the image: an index of PyTorch's CPU builds; without one torch is PyPI's, with CUDA
"""


def _token(known: Mapping[str, str]) -> str:
    # letters, digits, - and _ : nothing that a shell, a URL or compose's interpolation would read as something else
    return secrets.token_urlsafe(24)


def _user(known: Mapping[str, str]) -> str:
    return USER


def _server_login(known: Mapping[str, str]) -> str:
    return known.get("PREFECT_API_AUTH_STRING") or f"{USER}:{_token(known)}"


def _client_login(known: Mapping[str, str]) -> str:
    return known["PREFECT_SERVER_API_AUTH_STRING"]


MAKERS: dict[str, Callable[[Mapping[str, str]], str]] = {
    "POSTGRES_PASSWORD": _token,
    "PREFECT_SERVER_API_AUTH_STRING": _server_login,
    "PREFECT_API_AUTH_STRING": _client_login,
    "MLFLOW_TRACKING_USERNAME": _user,
    "MLFLOW_TRACKING_PASSWORD": _token,
    "MLFLOW_FLASK_SERVER_SECRET_KEY": _token,
    "UNROLL_SERVE_TOKEN": _token,
    "UNROLL_S3_ACCESS_KEY": _user,
    "UNROLL_S3_SECRET_KEY": _token,
}
"""How each name of the file is made, from those before it."""


def make_env(path: Path = DEFAULT_PATH) -> list[str]:
    """Write the names that the file lacks, each with a fresh random value; values that are there stay.

    The file is mode 0600 and written whole or not at all. Returns the names that were added.
    Raises ConfigError: it cannot be read. StoreError: it cannot be written.
    """
    known = read_env(path)
    added: dict[str, str] = {}
    for name, make in MAKERS.items():
        if not known.get(name):
            added[name] = make(known | added)
    if added:
        write_private(path, _with_lines(path, added))
    elif path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return list(added)


def fresh_env(known: Mapping[str, str]) -> dict[str, str]:
    """A new random value for every secret of the file; user names stay."""
    fresh: dict[str, str] = {}
    for name, make in MAKERS.items():
        fresh[name] = known[name] if make is _user and known.get(name) else make(fresh)
    return fresh


def read_env(path: Path = DEFAULT_PATH) -> dict[str, str]:
    """Names and values of the file; none where there is no file. Raises ConfigError: it cannot be read as text."""
    from dotenv import dotenv_values

    if not path.exists():
        return {}
    try:
        found = dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); expected lines NAME=value.") from error
    return {name: value for name, value in found.items() if value is not None}


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all. Raises StoreError."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with writing(path):
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            os.replace(partial, path)
            sync_path(path.absolute().parent)
        finally:
            partial.unlink(missing_ok=True)


def with_values(text: str, values: Mapping[str, str]) -> str:
    """The file's text with these names set to these values; other lines and comments stay as they are."""
    kept = [line for line in text.splitlines() if line.partition("=")[0].strip() not in values]
    return "\n".join([*kept, *(f"{name}={value}" for name, value in values.items())]) + "\n"


def _with_lines(path: Path, added: Mapping[str, str]) -> str:
    return with_values(path.read_text(encoding="utf-8") if path.exists() else HEADING, added)
