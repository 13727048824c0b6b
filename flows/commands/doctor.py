"""``unroll doctor``: what this machine has, and what would go wrong."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from flows.commands.early_checks import refusal_of, trouble_with, without_password
from flows.embedded import workplace
from flows.env_file import fresh_env, make_env, read_env, with_values, write_private
from unroll.files import existing_parent

Check = tuple[str, str, str]
"""Verdict (ok, note or problem), what was looked at, what was found."""

SMALLEST_DISK_MIB = 2048
PACKAGES = ("torch", "prefect", "fastapi", "mlflow", "datasets", "pandas", "tokenizers")


def examine() -> int:
    """Print every check, a line each; return 1 where there is a problem, else 0."""
    checks = [*_machine(), *_packages(), *_places(), *_servers()]
    width = max(len(what) for _, what, _ in checks)
    for verdict, what, found in checks:
        print(f"{verdict:8} {what:{width}}  {found}")
    return int(any(verdict == "problem" for verdict, _, _ in checks))


def write_env(path: Path, replace: bool) -> None:
    """Write the names that `.env` lacks, or with ``replace`` new values for all; print the names, never the values."""
    if replace and path.exists():
        write_private(path, with_values(path.read_text(encoding="utf-8"), fresh_env(read_env(path))))
        print(f"{path}: new values for all; a stack that runs with the old ones needs 'make rotate' instead")
        return
    added = make_env(path)
    print(f"{path}: added {', '.join(added)}" if added else f"{path}: has everything; nothing was changed")


def _machine() -> Iterator[Check]:
    import torch

    yield "ok", "Python", platform.python_version()
    yield "ok", "processor", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        yield "ok", "GPU", names
    else:
        yield "note", "GPU", "none; training.device=auto trains on the CPU"


def _packages() -> Iterator[Check]:
    for name in PACKAGES:
        try:
            yield "ok", name, metadata.version(name)
        except metadata.PackageNotFoundError:
            yield "problem", name, "not installed; run 'make setup'"
    major, minor = (int(part) for part in metadata.version("fastapi").split(".")[:2])
    if (major, minor) >= (0, 151):
        yield "problem", "fastapi", "Prefect 3.8 fails with 0.151 and later; install with -c constraints.txt"


def _places() -> Iterator[Check]:
    place = workplace()
    parent = existing_parent(place.root)
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
        yield "ok", "working folder", f"{place.root}, writable"
    except OSError as error:
        yield "problem", "working folder", f"{place.root}: {error.strerror}; name another in UNROLL_HOME"
    free = shutil.disk_usage(parent).free // 2**20
    verdict = "ok" if free > SMALLEST_DISK_MIB else "problem"
    yield verdict, "free disk", f"{free:,} MiB" + ("" if verdict == "ok" else f", expected {SMALLEST_DISK_MIB}")
    mirror = os.environ.get("UNROLL_MIRROR")
    if not mirror:
        yield "note", "UNROLL_MIRROR", "not set; public corpora come from the network"
    elif not Path(mirror).is_dir():
        yield "problem", "UNROLL_MIRROR", f"{mirror} is no folder"
    else:
        there = [name for name in ("imdb", "gutenberg") if (Path(mirror) / name).is_dir()]
        yield ("ok" if there else "problem"), "UNROLL_MIRROR", f"{mirror}: {', '.join(there) or 'no corpus in it'}"


def _servers() -> Iterator[Check]:
    for variable in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        url = os.environ.get(variable, "")
        if not url.startswith(("http://", "https://")):
            yield "ok", variable, url or "not set: embedded, below the working folder"
        elif trouble := trouble_with(url):
            yield "problem", variable, f"{without_password(url)} does not answer: {trouble}"
        elif refusal := refusal_of(variable, url):
            yield "problem", variable, f"{without_password(url)} {refusal}"
        else:
            yield "ok", variable, f"{without_password(url)} answers"
