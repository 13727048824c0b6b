"""The registry as a source of served models: the version that an alias or a number names, now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.registry import CHAMPION, MODEL_TAG, ModelRegistry, Version
from unroll.serving.source import ServedVersion


class RegistrySource:
    """Follows a registered model's champion, or what ``spec`` names; see `ModelRegistry.resolve`."""

    def __init__(self, registry: ModelRegistry, name: str, spec: str | None = None) -> None:
        """Nothing is asked of the registry yet."""
        self.name = name
        self._registry = registry
        self._spec = spec
        self._found: dict[ServedVersion, Version] = {}

    def current(self) -> ServedVersion | None:
        """The version to serve now; None where the registry itself says that there is no champion."""
        version = (
            self._registry.champion(self.name)
            if self._spec in (None, CHAMPION)
            else self._registry.resolve(self.name, self._spec)
        )
        if version is None:
            return None
        served = ServedVersion(version.name, version.number, version.tags.get(MODEL_TAG, ""))
        self._found = {served: version}
        return served

    @contextmanager
    def folder(self, version: ServedVersion) -> Iterator[Path]:
        """The model folder of the version that `current` gave last."""
        with self._registry.model_folder(self._found[version]) as folder:
            yield folder
