"""Checkpoints: named parts in a folder that is published whole, so that training can be killed at any instant.

    latest-00000007/        also good-… (at evaluations) and best-… (weights of the best evaluation)
        weights.safetensors     the model's tensors
        state.pt                optimizer, generators, carried state, loss scaler: loadable with weights_only=True
        progress.json           plain numbers: step, place in the data, early stopping, counters

No pickle is ever loaded.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save
from torch import Tensor, nn

from unroll.errors import CheckpointError
from unroll.files import publish_folder, writing

FORMAT = 1
WEIGHTS_FILE = "weights.safetensors"
PROGRESS_FILE = "progress.json"


class CheckpointFolder:
    """The checkpoints of one training run. At most one of each kind is kept, and none is ever half-written."""

    def __init__(self, root: Path) -> None:
        """Use ``root``, made on the first save; what a killed save left there is swept by the next one."""
        self.root = root

    def save(self, kind: str, model: nn.Module, progress: dict[str, Any], state: dict[str, Any] | None = None) -> None:
        """Publish a checkpoint and drop the older one of its kind. Raises StoreError where the disk refuses."""
        with writing(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            self._sweep()
            older = self._of_kind(kind)
            name = f"{kind}-{self._next_serial():08d}"
            partial = self.root / f"{name}.partial"
            partial.mkdir()
            try:
                _write_parts(partial, model, progress, state)
                publish_folder(partial, self.root / name)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            for folder in older:
                shutil.rmtree(folder, ignore_errors=True)

    def newest(self, *kinds: str) -> Path | None:
        """The checkpoint saved last among some kinds, or None."""
        folders = [folder for kind in kinds for folder in self._of_kind(kind)]
        return max(folders, key=lambda folder: folder.name.rpartition("-")[2], default=None)

    def _sweep(self) -> None:
        for leftover in self.root.glob("*-????????.partial"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _next_serial(self) -> int:
        serials = [int(path.name.rpartition("-")[2]) for path in self.root.glob("*-????????")]
        return max(serials, default=0) + 1

    def _of_kind(self, kind: str) -> list[Path]:
        return sorted(self.root.glob(f"{kind}-????????"))


def load_checkpoint(folder: Path, model: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """Load the weights into ``model``; return (progress, state). Raises CheckpointError where a part does not fit."""
    load_weights(model, folder / WEIGHTS_FILE)
    progress = read_progress(folder)
    state_path = folder / "state.pt"
    try:
        state = torch.load(state_path, weights_only=True, map_location="cpu") if state_path.exists() else {}
    except (OSError, EOFError, ValueError, RuntimeError, UnpicklingError) as error:
        raise CheckpointError(f"{state_path} cannot be read ({error}); remove {folder} to go on without it.") from error
    return progress, state


def read_progress(folder: Path) -> dict[str, Any]:
    """The plain numbers of a checkpoint. Raises CheckpointError where they are damaged or of another format."""
    try:
        progress: dict[str, Any] = json.loads((folder / PROGRESS_FILE).read_text(encoding="utf-8"))
        found = progress.pop("format")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / PROGRESS_FILE} cannot be read ({error}); remove {folder} to go on without it."
        ) from error
    if found != FORMAT:
        raise CheckpointError(f"The checkpoint {folder} has format {found}, expected {FORMAT}; remove it.")
    return progress


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's parameters as safetensors; shared ones are stored once. Raises OSError for a full disk."""
    tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters()}
    # written by Python: the libraries' own writers report a full disk in errors of their own
    path.write_bytes(save(tensors))


def load_weights(model: nn.Module, path: Path) -> None:
    """Read a model's tensors. Raises CheckpointError where the file is damaged or its shapes are another model's."""
    try:
        load_model(model, str(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"The weights {path} do not fit ({error}); use the config and vocabulary saved beside them."
        ) from error


def weights_sha256(tensors: dict[str, Tensor]) -> str:
    """SHA-256 (hex) over the tensors' names, shapes and bytes, in name order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _write_parts(folder: Path, model: nn.Module, progress: dict[str, Any], state: dict[str, Any] | None) -> None:
    save_weights(model, folder / WEIGHTS_FILE)
    if state is not None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        (folder / "state.pt").write_bytes(buffer.getbuffer())
    (folder / PROGRESS_FILE).write_text(json.dumps({"format": FORMAT, **progress}), encoding="utf-8")
