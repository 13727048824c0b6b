"""Where this machine's pip finds packages, told to the pip of a build; local folders are served on loopback."""

from __future__ import annotations

import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PLACES = ("index-url", "extra-index-url", "find-links")
PLAIN = ("trusted-host", "default-timeout")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def pip_configuration(folder: Path) -> Iterator[str]:
    """The text of a pip.conf that holds while the block runs; `folder` keeps links to what is served."""
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    settings = _settings()
    lines = [f"{name} = {settings[name]}" for name in PLAIN if name in settings]
    for name in PLACES:
        places = [_served(place, name, folder, address) for place in settings.get(name, "").split()]
        lines += [f"{name} = {' '.join(places)}"] if places else []
    try:
        yield "\n".join(["[global]", *lines, ""])
    finally:
        server.shutdown()
        server.server_close()


def _settings() -> dict[str, str]:
    """`pip config list` without the sections' names; the environment's values go before the files'."""
    said = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    pairs = [line.partition("=") for line in said.stdout.splitlines()]
    by_section = {name: " ".join(shlex.split(value)) for name, _, value in pairs}
    environment = {name[6:]: value for name, value in by_section.items() if name.startswith(":env:.")}
    files = {name.partition(".")[2]: value for name, value in by_section.items() if not name.startswith(":env:")}
    return files | environment


def _served(place: str, setting: str, folder: Path, address: str) -> str:
    """The place's address for a build; what lies on the disk gets one here."""
    path = Path(place.removeprefix("file://"))
    if not path.is_absolute():
        return place
    # the pages of an index lead to files beside it
    root = path if setting == "find-links" else path.parent
    link = folder / str(len(list(folder.iterdir())))
    link.symlink_to(root)
    return f"{address}/{link.name}/{path.relative_to(root)}/".replace("/./", "/")
