"""Loading a model folder, as the train stage writes it: settings, vocabulary and weights, no pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from unroll.config import AnyConfig, LanguageModelConfig
from unroll.data.encoders import TextEncoder, load_encoder
from unroll.errors import CheckpointError, ConfigError, RegistryError, UnrollError
from unroll.models.classifier import SentimentClassifier
from unroll.models.language_model import CharLanguageModel
from unroll.presets import make_config
from unroll.training.checkpoint import WEIGHTS_FILE, load_weights, weights_sha256


@dataclass(frozen=True)
class SavedModel:
    """A trained model with all that it needs to read text."""

    model: nn.Module
    """In evaluation mode, on the device."""
    encoder: TextEncoder
    config: AnyConfig
    class_names: tuple[str, ...]
    """Empty for a language model."""
    device: torch.device


def load_model(folder: Path, device: torch.device) -> SavedModel:
    """Read a model folder. Raises CheckpointError where a part is missing, damaged or does not fit the others."""
    try:
        plain = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        class_names = tuple(plain.pop("class_names"))
        config = make_config(plain["project"], plain)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UnrollError) as error:
        raise CheckpointError(f"{folder / 'config.json'} cannot be read ({error}); register the model anew.") from error
    encoder = load_encoder(folder)
    model: nn.Module
    if isinstance(config, LanguageModelConfig):
        model = CharLanguageModel(config.model, len(encoder.vocabulary))
    else:
        try:
            model = SentimentClassifier(config.model, len(encoder.vocabulary), len(class_names))
        except ConfigError as error:
            raise CheckpointError(f"{folder / 'config.json'} does not fit: {error}") from error
    load_weights(model, folder / WEIGHTS_FILE)
    return SavedModel(model.to(device).eval(), encoder, config, class_names, device)


def check_contents(model_folder: Path, weights: str | None, vocabulary: str | None) -> None:
    """Load a model folder, on the CPU, and compare its weights and vocabulary with the digests noted for it (SHA-256).

    None: no digest was noted, and whatever is there will do. Raises RegistryError where one differs, CheckpointError
    where the model cannot be loaded.
    """
    saved = load_model(model_folder, torch.device("cpu"))
    found = {
        "weights": (weights_sha256(dict(saved.model.state_dict())), weights),
        "vocabulary": (saved.encoder.vocabulary.digest, vocabulary),
    }
    for what, (ours, noted) in found.items():
        if noted is not None and ours != noted:
            raise RegistryError(
                f"The registry gives back other {what} ({ours[:12]}) than the version was made with ({noted[:12]}): "
                "its files were changed or mixed up. Register it anew: run again with --from register."
            )
