"""Which precision to score and to train in, by what was measured rather than by faith.

`python -m benchmarks.precision` measures; the whole table is benchmarks/results/precision.md. In short, on a processor
with bfloat16 products, times faster than float32 by CPU time, from the smallest shape to the largest:

    a layer over 64 reviews       bfloat16        int8 weights
    LSTM, hidden 64 to 512        1.7 to 2.0      0.6 to 2.0
    GRU, hidden 64 to 512         0.8 to 1.1      1.3 to 2.6

    training, 16 to 128 rows
    LSTM, hidden 64 to 1024       1.1 to 1.7

So an LSTM scores and trains in bfloat16 and everything else in float32. On a GPU all do in float32: in single runs on
an H100, text trained faster in bfloat16 and reviews in float32 (benchmarks/results/gpu-h100.md).
Weights in int8, which would serve a GRU, are not offered: PyTorch's way to them is deprecated.
"""

from __future__ import annotations

import torch
from torch import nn

from unroll.errors import PredictionError
from unroll.models.classifier import SentimentClassifier
from unroll.models.language_model import CharLanguageModel

SCORING_PRECISIONS = ("float32", "bfloat16", "auto")


def scoring_precision(name: str, model: SentimentClassifier, device: torch.device) -> str:
    """The precision that a name stands for: `auto` is bfloat16 for an LSTM on a CPU that computes in it, else float32.

    Raises PredictionError for a name that is none.
    """
    _check(name)
    return _measured_best(model, device) if name == "auto" else name


def generation_precision(name: str, model: CharLanguageModel, device: torch.device, num_texts: int) -> str:
    """The precision that a name stands for when texts are made, a character of each a step.

    `auto` is bfloat16 for several texts by an LSTM on a CPU that computes in it, else float32: a product with one row
    alone waits for memory, and NumPy's is the quicker one.

    Raises PredictionError for a name that is none.
    """
    _check(name)
    if name != "auto":
        return name
    return "float32" if num_texts == 1 else _measured_best(model, device)


def training_precision(name: str, model: nn.Module, device: torch.device) -> str:
    """The precision that ``training.precision`` stands for: `auto` as for scoring, any other name itself."""
    return _measured_best(model, device) if name == "auto" else name


def _check(name: str) -> None:
    if name not in SCORING_PRECISIONS:
        raise PredictionError(f"precision is {name!r}; expected {', '.join(SCORING_PRECISIONS)}.")


def _measured_best(model: nn.Module, device: torch.device) -> str:
    is_lstm = any(isinstance(module, nn.LSTM) for module in model.modules())
    return "bfloat16" if is_lstm and device.type == "cpu" and _has_bfloat16() else "float32"


def _has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself: elsewhere it is emulated, and slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) is True for name in ("avx512_bf16", "amx_bf16"))
