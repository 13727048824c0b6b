"""``unroll serve``: the champions behind REST and a page, changed for new ones while they serve."""

from __future__ import annotations

import ipaddress
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from flows.commands.registry import open_registry
from unroll.config import CONFIG_CLASSES, registered_name
from unroll.errors import ConfigError
from unroll.presets import make_config

logger = logging.getLogger("unroll.serve")


def serve(
    host: str, port: int, models: Sequence[str], token_variable: str | None, seconds_between_looks: float
) -> NoReturn:
    """Serve until Ctrl-C or SIGTERM, then end the process; the first line of stdout is the address.

    models: ``PROJECT=SPEC`` each, as `unroll predict --model` takes a spec. token_variable: the environment variable
    that holds the bearer token. Raises ConfigError for a project that is none, or a token that is not there.
    """
    specs = dict(_parse(model) for model in models)
    token = _read_token(token_variable)
    if token is None and not _is_loopback(host):
        logger.warning("anybody who reaches %s may use the models; --token-env NAME asks for a token", host)
    registry = open_registry()

    import torch

    from tasks.serving import RegistrySource
    from unroll.serving.app import make_app
    from unroll.serving.server import run_server
    from unroll.serving.settings import ServingSettings
    from unroll.training.device import resolve_device

    # A small batch leaves two threads waiting for each other; requests are what there is many of.
    torch.set_num_threads(1)
    sources = {}
    for project in CONFIG_CLASSES:
        name, spec = registered_name(make_config(project, {})), specs.get(project)
        if spec is not None:
            name = registry.resolve(name, spec).name
        sources[project] = RegistrySource(registry, name, spec)
    settings = ServingSettings(token=token, seconds_between_looks=seconds_between_looks)
    app = make_app(sources["sentiment"], sources["language_model"], resolve_device("auto"), settings)
    run_server(app, host, port, lambda url: print(url, flush=True))
    logger.info("stopped")
    # Everything is answered and closed. Taking apart torch's and MLflow's modules costs a second, and the reloader may
    # still be asking a registry that does not answer.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _parse(model: str) -> tuple[str, str]:
    project, _, spec = model.partition("=")
    project = project.replace("-", "_")
    if project not in CONFIG_CLASSES or not spec:
        projects = ", ".join(name.replace("_", "-") for name in CONFIG_CLASSES)
        raise ConfigError(f"--model is {model!r}; expected PROJECT=VERSION with one of the projects {projects}.")
    return project, spec


def _read_token(variable: str | None) -> str | None:
    if variable is None:
        return None
    token = os.environ.get(variable, "").strip()
    if not token:
        raise ConfigError(f"--token-env names {variable}, which is not set or empty; put the token there.")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
