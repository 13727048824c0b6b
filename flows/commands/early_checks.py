"""What can be known to fail before anything is started: files that are not there, servers that do not answer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from flows.env_file import read_env
from unroll.config import AnyConfig, SentimentConfig
from unroll.errors import ConfigError, DataError, RegistryError, UnrollError

if TYPE_CHECKING:
    import httpx

MADE_OR_PUBLIC = {"sentiment": ("sample", "imdb"), "language_model": ("sample", "gutenberg")}
SECONDS_TO_ANSWER = 5.0

_DOORS = {
    "PREFECT_API_URL": ("/admin/version", "PREFECT_API_AUTH_STRING"),
    "MLFLOW_TRACKING_URI": (
        "/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default",
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    ),
}
"""A path that only a client with credentials may ask for, and where the credentials come from."""


def check_sources(config: AnyConfig) -> None:
    """Look at the user's files, if the config names any: are they there, are they what the project reads?

    Raises DataError: a file is missing, empty, binary or of no known kind, or a column is missing.
    """
    if config.data.source not in MADE_OR_PUBLIC[config.project]:
        _check_file(config, Path(config.data.source))
    if config.data.test_source is not None:
        _check_file(config, Path(config.data.test_source))


def check_output(path: Path) -> None:
    """Raise ConfigError where the folder of a file to be written is not there, or a folder is in its place."""
    if not path.parent.is_dir():
        raise ConfigError(f"{path} cannot be written: there is no folder {path.parent}; make it first.")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; expected the name of a file to write.")


def check_servers(*variables: str) -> None:
    """Ask the servers that the user named in environment variables for any answer, and whether they let us in.

    Raises RegistryError (MLflow) or UnrollError (Prefect) where one does not; libraries would try for minutes.
    """
    for variable in variables:
        url = os.environ.get(variable, "")
        if url.startswith(("http://", "https://")) and (trouble := trouble_with(url)):
            error = RegistryError if variable.startswith("MLFLOW") else UnrollError
            raise error(
                f"{variable} names {without_password(url)}, which does not answer ({trouble}). Start that server, "
                f"mend the address, or unset {variable} to use the embedded one."
            )
        if url.startswith(("http://", "https://")) and (refusal := refusal_of(variable, url)):
            error = RegistryError if variable.startswith("MLFLOW") else UnrollError
            raise error(f"{variable} names {without_password(url)}, which {refusal}.")


def trouble_with(url: str) -> str | None:
    """Why a server cannot be used; None where it gives an answer, whatever it is."""
    import httpx

    try:
        httpx.get(f"{url.rstrip('/')}/health", timeout=SECONDS_TO_ANSWER)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return str(error) or type(error).__name__
    return None


def refusal_of(variable: str, url: str) -> str | None:
    """Why a server that answers will not serve us: what it said, and what to set; None where it may."""
    import httpx

    login = _login(variable)
    path, names = _DOORS[variable]
    try:
        answer = httpx.get(f"{url.rstrip('/')}{path}", timeout=SECONDS_TO_ANSWER, auth=login)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None  # it answered a moment ago; what comes next will tell
    if answer.status_code == 403 and "Host header" in answer.text:
        host = urlsplit(url).netloc.rpartition("@")[2]
        return f"does not answer to the name {host}; add it to that server's --allowed-hosts"
    if answer.status_code not in (401, 403) or _has_other_login(variable):
        return None
    if login is None:
        return f"asks for credentials; set {names} ('make -s stack-env' prints those of this folder's stack)"
    return f"refuses the credentials in {names} ({answer.status_code}); set those that the server was started with"


def _login(variable: str) -> httpx.Auth | None:
    """The credentials that Prefect's or MLflow's client will use."""
    import httpx

    if variable == "PREFECT_API_URL":
        # Prefect's client reads `.env` of the working folder too
        known = read_env() | {name: value for name, value in os.environ.items() if value}
        user, separator, password = known.get("PREFECT_API_AUTH_STRING", "").partition(":")
        return httpx.BasicAuth(user, password) if separator else None
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
    return httpx.BasicAuth(user, password) if user else None


def _has_other_login(variable: str) -> bool:
    """Whether the library has credentials of a kind that `_login` does not know."""
    if variable == "PREFECT_API_URL":
        return bool(os.environ.get("PREFECT_API_KEY"))
    return bool(os.environ.get("MLFLOW_TRACKING_TOKEN")) or Path("~/.mlflow/credentials").expanduser().exists()


def without_password(url: str) -> str:
    """The address as it may be shown."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _check_file(config: AnyConfig, path: Path) -> None:
    public = MADE_OR_PUBLIC[config.project]
    if not path.exists():
        raise DataError(f"There is no file or folder {path}; data.source takes {', '.join(public)} or a path.")
    if isinstance(config, SentimentConfig):
        _check_reviews(config, path)
    else:
        _check_text(path)


def _check_reviews(config: SentimentConfig, path: Path) -> None:
    if path.is_dir():
        return  # `datasets` finds out what is in it
    from unroll.data.review_files import open_table, require_columns

    table = open_table(path)
    columns = [config.data.text_column, config.data.label_column]
    require_columns(table.where, table.columns, *columns)
    if not any(batch[columns[0]] for batch in table.read(columns)):
        raise DataError(f"{path} has columns {', '.join(table.columns)} and no rows; expected labelled texts.")


def _check_text(path: Path) -> None:
    from unroll.data.text_files import iter_utf8

    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes); expected running text.")
    next(iter_utf8(path), None)
