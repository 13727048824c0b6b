"""The model registry as commands open it: quick to say that there is nothing yet."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from flows.commands.early_checks import check_servers
from flows.embedded import prepare_environment, workplace
from unroll.errors import RegistryError

if TYPE_CHECKING:
    from tasks.registry import ModelRegistry

logger = logging.getLogger("unroll.registry")


def open_registry() -> ModelRegistry:
    """The registry of the embedded store, or of the user's server.

    Raises RegistryError where the server does not answer, or nothing was ever trained in this working folder; the
    folder is then left as it is.
    """
    place = workplace()
    if not os.environ.get("MLFLOW_TRACKING_URI") and not place.mlflow_database.exists():
        raise RegistryError(
            f"No model is registered: there is no {place.mlflow_database}. Train one with 'unroll run', run where one "
            "was trained, or name that place in UNROLL_HOME or MLFLOW_TRACKING_URI."
        )
    logger.info("opening the model registry")
    check_servers("MLFLOW_TRACKING_URI")
    prepare_environment(place)
    import mlflow

    from tasks.registry import ModelRegistry

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    return ModelRegistry(mlflow.get_tracking_uri())
