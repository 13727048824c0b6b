"""Project two: random windows of a text, read one character a call; and the function that samples from the model.

Dimensions: B batch, T time, H hidden units, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.utils.data import DataLoader, Dataset

State = tuple[Tensor, Tensor]
Draw = Callable[[int, Tensor], int]
"""From a step, from 0, and its logits (V,) to the id drawn."""


class OneStepModel(nn.Module):
    """Embedding, LSTM, linear layer; a call reads one character of each text."""

    def __init__(self, vocab_size: int, embedding_dim: int = 256, hidden_size: int = 512) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.lstm = nn.LSTM(embedding_dim, hidden_size, batch_first=True)
        self.output = nn.Linear(hidden_size, vocab_size)

    def forward(self, token_ids: Tensor, state: State) -> tuple[Tensor, State]:
        """token_ids: (B,) int64. Returns logits (B, V) and the state after the character."""
        sequence, state = self.lstm(self.embedding(token_ids).unsqueeze(1), state)
        return self.output(sequence).squeeze(1), state

    def initial_state(self, batch_size: int) -> State:
        """Zeros: h and c, (1, B, H) each."""
        shape = (1, batch_size, self.lstm.hidden_size)
        return torch.zeros(shape), torch.zeros(shape)


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """Every window of a text: its characters, and those after them."""

    def __init__(self, token_ids: NDArray[np.integer], window: int) -> None:
        """token_ids: (N,). The windows are views, where the chapter keeps a copy of each: less memory, no slower."""
        text = torch.from_numpy(np.array(token_ids, dtype=np.int64))
        self._chunks = text.unfold(0, window + 1, 1)

    def __len__(self) -> int:
        return len(self._chunks)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        chunk = self._chunks[index]
        return chunk[:-1].long(), chunk[1:].long()


class LanguageModelTraining:
    """The chapter's loop: a new iterator, and so a new shuffle of all windows, for every step."""

    def __init__(
        self, model: OneStepModel, windows: Windows, batch_size: int = 64, learning_rate: float = 5e-3
    ) -> None:
        self.model = model
        self.loader = DataLoader(windows, batch_size=batch_size, shuffle=True, drop_last=True)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)

    def train_steps(self, num_steps: int) -> int:
        """Returns the number of characters predicted."""
        self.model.train()
        num_characters = 0
        for _ in range(num_steps):
            inputs, targets = next(iter(self.loader))
            self.train_step(inputs, targets)
            num_characters += targets.numel()
        return num_characters

    def train_step(self, inputs: Tensor, targets: Tensor) -> float:
        """inputs, targets: (B, T). Returns the loss of a character in nats."""
        self.optimizer.zero_grad()
        loss = summed_loss(self.model, inputs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.item() / inputs.size(1)


def summed_loss(model: OneStepModel, inputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, a mean over the batch and a sum over the steps; inputs, targets: (B, T)."""
    loss_fn = nn.CrossEntropyLoss()
    state = model.initial_state(inputs.size(0))
    loss = torch.zeros(())
    for step in range(inputs.size(1)):
        logits, state = model(inputs[:, step], state)
        loss = loss + loss_fn(logits, targets[:, step])
    return loss


def sample(
    model: OneStepModel,
    prompt: str,
    characters: Sequence[str],
    length: int = 500,
    scale_factor: float = 1.0,
    draw: Draw | None = None,
) -> str:
    """The prompt and ``length`` characters after it, drawn one by one.

    characters: by id. scale_factor: multiplies the logits. draw: in place of PyTorch's `Categorical`, for a text that
    can be compared.
    """
    ids_by_character = {character: token_id for token_id, character in enumerate(characters)}
    prompt_ids = torch.tensor([ids_by_character[character] for character in prompt])
    model.eval()
    state = model.initial_state(1)
    for token_id in prompt_ids[:-1]:
        _, state = model(token_id.view(1), state)
    last, text = prompt_ids[-1], prompt
    for step in range(length):
        logits, state = model(last.view(1), state)
        scaled = logits.squeeze(0) * scale_factor
        last = Categorical(logits=scaled).sample() if draw is None else torch.tensor(draw(step, scaled))  # type: ignore[no-untyped-call]
        text += characters[int(last)]
    return text
