"""No speed bought with accuracy: the language model's loss after the same steps from the same weights, each way."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.chapter.language_model import LanguageModelTraining, OneStepModel, Windows
from unroll.config import LanguageModelConfig
from unroll.data.batching import StreamBatch
from unroll.data.encoded import EncodedCorpus
from unroll.models.language_model import CharLanguageModel
from unroll.training.device import autocast
from unroll.training.language_model import LanguageModelProblem
from unroll.training.optim import make_optimizers
from unroll.training.seed import seed_torch

CPU = torch.device("cpu")


def copy_weights(source: CharLanguageModel, target: OneStepModel) -> None:
    """Give the chapter's model the weights of ours, of one layer."""
    target.embedding.load_state_dict(source.embedding.state_dict())
    target.lstm.load_state_dict(source.recurrent.forward_layers[0].state_dict())
    target.output.load_state_dict(source.output.state_dict())


def losses_on_the_same_windows(config: LanguageModelConfig, encoded: EncodedCorpus, steps: int) -> dict[str, Any]:
    """Nats a character at the last of some steps on the same windows: the chapter's loop, ours in each precision."""
    seed_torch(config.seed)
    problem = LanguageModelProblem(config, encoded)
    chapter = OneStepModel(encoded.vocab_size, config.model.embedding_dim, config.model.hidden_size)
    copy_weights(problem.model, chapter)
    windows = Windows(encoded.split("train").tokens, config.training.window)
    training = LanguageModelTraining(chapter, windows, config.training.batch_size, config.training.learning_rate)
    first = {name: tensor.clone() for name, tensor in problem.model.state_dict().items()}
    batches = [batch for batch, _ in zip(problem.batches(0, 0), range(steps), strict=False)]
    losses = {"chapter": [training.train_step(batch.inputs, batch.targets) for batch in batches][-1]}
    for precision in ("float32", "bfloat16"):
        problem.model.load_state_dict(first)
        losses[f"unroll {precision}"] = _train(problem, config, batches, precision)
    return {"steps": len(batches), "loss_at_last_step": {name: round(loss, 4) for name, loss in losses.items()}}


def _train(
    problem: LanguageModelProblem, config: LanguageModelConfig, batches: list[StreamBatch], precision: str
) -> float:
    (optimizer,) = make_optimizers(problem.model, config.training)
    problem.model.train()
    value = 0.0
    for batch in batches:
        with autocast(CPU, precision):
            loss, _ = problem.loss(batch, None)
        optimizer.zero_grad()
        (loss * problem.loss_weight(batch)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        value = float(loss.detach())
    return value
