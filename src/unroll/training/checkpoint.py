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
from safetensors.torch import load_file, save
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
    """Write a model's tensors as safetensors; a shared one is stored once. Raises OSError if the disk is full."""
    tensors = {names[0]: tensor.detach().cpu().contiguous() for names, tensor in _named_tensors(model)}
    # written by Python: the libraries' own writers report a full disk in errors of their own
    path.write_bytes(save(tensors))


def load_weights(model: nn.Module, path: Path) -> None:
    """Copy the tensors of a file into a model's, by name.

    Not by safetensors' `load_model`: it refuses a model whose tensors are parts of one buffer, as cuDNN keeps the
    weights of a recurrent layer. Raises CheckpointError if the file is damaged, or if its names or shapes are another
    model's; the model is then as it was.
    """
    try:
        found = load_file(path)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"The weights {path} cannot be read ({error}); train or register them anew.") from error
    copies, faults = [], []
    for names, tensor in _named_tensors(model):
        name = next((name for name in names if name in found), names[0])
        value = found.pop(name, None)
        if value is None:
            faults.append(f"{name} is missing")
        elif value.shape != tensor.shape:
            faults.append(f"{name} has the shape {tuple(value.shape)}, expected {tuple(tensor.shape)}")
        else:
            copies.append((tensor, value))
    faults += [f"{name} is not expected" for name in sorted(found)]
    if faults:
        raise CheckpointError(
            f"The weights {path} do not fit ({'; '.join(faults)}); use the config and vocabulary saved beside them."
        )
    with torch.no_grad():
        for tensor, value in copies:
            tensor.copy_(value)


def _named_tensors(model: nn.Module) -> list[tuple[list[str], Tensor]]:
    """Each parameter and buffer with all its names, in the model's order; a tied one has several."""
    named: dict[int, tuple[list[str], Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        named.setdefault(id(tensor), ([], tensor))[0].append(name)
    return list(named.values())


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
