"""Checkpoints: named parts in a folder that is published whole, so that training can be killed at any instant.

    latest-00000007/        also good-… (at evaluations) and best-… (weights of the best evaluation)
        weights.safetensors     the model's tensors
        state.pt                optimizer, generators, carried state, loss scaler: loadable with weights_only=True
        progress.json           plain numbers: step, place in the data, early stopping, counters

No pickle is ever loaded.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from unroll.errors import CheckpointError
from unroll.files import publish_folder, writing

FORMAT = 1
WEIGHTS_FILE = "weights.safetensors"


class CheckpointFolder:
    """The checkpoints of one training run. At most one of each kind is kept, and none is ever half-written."""

    def __init__(self, root: Path) -> None:
        """Use ``root``, made on the first save; what a killed save left there is swept then."""
        self.root = root

    def save(self, kind: str, model: nn.Module, progress: dict[str, Any], state: dict[str, Any] | None = None) -> None:
        """Publish a checkpoint and drop the older one of its kind. Raises StoreError where the disk refuses."""
        with writing(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            older = self._of_kind(kind)
            serial = self._next_serial()
            partial = self.root / f"{kind}-{serial:08d}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            save_weights(model, partial / WEIGHTS_FILE)
            if state is not None:
                torch.save(state, partial / "state.pt")
            (partial / "progress.json").write_text(json.dumps({"format": FORMAT, **progress}), encoding="utf-8")
            publish_folder(partial, self.root / f"{kind}-{serial:08d}")
            for folder in older:
                shutil.rmtree(folder, ignore_errors=True)

    def newest(self, *kinds: str) -> Path | None:
        """The checkpoint saved last among some kinds, or None."""
        folders = [folder for kind in kinds for folder in self._of_kind(kind)]
        return max(folders, key=lambda folder: folder.name.rpartition("-")[2], default=None)

    def _next_serial(self) -> int:
        serials = [int(path.name.rpartition("-")[2]) for path in self.root.glob("*-????????")]
        return max(serials, default=0) + 1

    def _of_kind(self, kind: str) -> list[Path]:
        return sorted(self.root.glob(f"{kind}-????????"))


def load_checkpoint(folder: Path, model: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """Load the weights into ``model``; return (progress, state). Raises CheckpointError where a part does not fit."""
    load_weights(model, folder / WEIGHTS_FILE)
    try:
        progress = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        state_path = folder / "state.pt"
        state = torch.load(state_path, weights_only=True, map_location="cpu") if state_path.exists() else {}
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"The checkpoint {folder} cannot be read ({error}); remove it to train anew.") from error
    if progress.get("format") != FORMAT:
        raise CheckpointError(
            f"The checkpoint {folder} has format {progress.get('format')}, expected {FORMAT}; remove it to train anew."
        )
    return progress, state


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's tensors as safetensors; shared tensors are stored once."""
    save_model(model, str(path))


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
