"""Base images under the names that the Dockerfile and docker-compose.yml ask for, made from Debian's packages."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
from pathlib import Path

import yaml

from tests.command import ROOT
from tests.containers.engine import Engine

PACKAGES = "python3,python3-venv,ca-certificates"
BUNDLE = "etc/ssl/certs/ca-certificates.crt"
SECONDS = 900.0


def python_image() -> str:
    """The image that the Dockerfile begins with."""
    [name] = set(re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE))
    return name


def postgres_image() -> str:
    """The image of PostgreSQL that docker-compose.yml names."""
    name: str = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]["postgres"][
        "image"
    ]
    return name


def make_python_image(engine: Engine, folder: Path, pip_conf: str) -> None:
    """Debian with its Python, which knows this machine's package sources and the authorities it trusts."""
    release = python_image().rpartition("-")[2]
    command = ["debootstrap", "--variant=minbase", "--no-check-gpg", f"--include={PACKAGES}", release, str(folder)]
    done = subprocess.run([*command, _mirror()], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (folder / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    (folder / "etc/pip.conf").write_text(f"{pip_conf}cert = /{BUNDLE}\n")
    if bundle := ssl.get_default_verify_paths().cafile:
        shutil.copyfile(bundle, folder / BUNDLE)
    (folder / "etc/apt/apt.conf.d/90host").write_text(_apt_settings())
    tar = ["tar", "--create", "--directory", str(folder), "--exclude=./var/cache/apt/archives/*.deb", "."]
    with subprocess.Popen(tar, stdout=subprocess.PIPE) as packed:
        engine("import", "--change", 'CMD ["python"]', "-", python_image(), timeout=SECONDS, stdin=packed.stdout)
    shutil.rmtree(folder)


def make_postgres_image(engine: Engine) -> None:
    """Debian's PostgreSQL with an entry point that does what the real image's does for this project."""
    options = ["--network", "host", "--build-arg", f"BASE={python_image()}", "--tag", postgres_image()]
    engine("build", *options, str(Path(__file__).parent / "postgres"), timeout=SECONDS)


def _mirror() -> str:
    """Where apt gets this machine's own packages."""
    said = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Component: main"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return said.stdout.split()[0]


def _apt_settings() -> str:
    said = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True)
    return "".join(f"{line}\n" for line in said.stdout.splitlines() if re.match(r"Acquire::(Check|https?\b)", line))
