"""Where a served model comes from: a registry that is asked again and again, or a folder that stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from unroll.files import sha256_of
from unroll.training.checkpoint import WEIGHTS_FILE


@dataclass(frozen=True)
class ServedVersion:
    """Which model answers; it stands in every answer."""

    name: str
    number: str
    digest: str
    """SHA-256 over the names and digests of the model folder's files."""


class ModelSource(Protocol):
    """Names the version to serve and hands out its folder. Both methods may take seconds and raise UnrollError."""

    @property
    def name(self) -> str:
        """The registered model's name."""

    def current(self) -> ServedVersion | None:
        """The version to serve now, or None where there is none yet."""

    def folder(self, version: ServedVersion) -> AbstractContextManager[Path]:
        """The version's model folder, for the length of the block."""


class FolderSource:
    """One model folder, as the train stage writes it; its digest is that of its weights file."""

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self.name = path.name
        self._path = path

    def current(self) -> ServedVersion:
        """The folder's model, version 0."""
        return ServedVersion(self.name, "0", sha256_of(self._path / WEIGHTS_FILE))

    @contextmanager
    def folder(self, version: ServedVersion) -> Iterator[Path]:
        """The folder itself."""
        yield self._path
