"""Weights as a GPU keeps them, on a CPU: cuDNN makes all those of a recurrent layer parts of one buffer."""

from __future__ import annotations

import pytest
import torch
from torch import nn


def share_one_buffer(layer: nn.RNNBase) -> None:
    """Point a layer's weights into one buffer, as `flatten_parameters` does on a GPU; their values stay."""
    parameters = list(layer.parameters())
    buffer = torch.cat([parameter.detach().flatten() for parameter in parameters])
    parts = buffer.split([parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.data = part.view_as(parameter)


def share_one_buffer_everywhere(patch: pytest.MonkeyPatch) -> None:
    """Every recurrent layer does it where it would on a GPU: when it is made there, and when it is moved there."""
    patch.setattr(nn.RNNBase, "flatten_parameters", share_one_buffer)


def in_one_buffer(model: nn.Module) -> bool:
    """Whether each of a model's recurrent layers, of which there is one at least, keeps its weights in one buffer."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.RNNBase)]
    storages = [{parameter.untyped_storage().data_ptr() for parameter in layer.parameters()} for layer in layers]
    return bool(layers) and all(len(of_layer) == 1 for of_layer in storages)
