"""Token ids of a split on disk, written as they come: {split}.tokens.bin and {split}.offsets.npy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unroll.data.vocabulary import Vocabulary

Ids = NDArray[np.int32]
FlatChunk = tuple[NDArray[Any], NDArray[np.int64]]
"""Ids of some items one after the other, and the length of each."""


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest little-endian dtype that holds every id and that PyTorch or NumPy widens without loss."""
    if vocab_size <= 2**8:
        return np.dtype("u1")
    return np.dtype("<u2") if vocab_size <= 2**16 else np.dtype("<i4")


def write_tokens(folder: Path, split: str, chunks: Iterable[FlatChunk], vocab_size: int) -> dict[str, float]:
    """Write the chunks of a split. Returns its items, tokens and unk_fraction."""
    dtype = token_dtype(vocab_size)
    lengths, num_unknown = [np.zeros(1, np.int64)], 0
    with (folder / f"{split}.tokens.bin").open("wb") as file:
        for ids, lengths_of_chunk in chunks:
            file.write(ids.astype(dtype, copy=False).data)
            lengths.append(lengths_of_chunk)
            num_unknown += int(np.count_nonzero(ids == Vocabulary.UNK_ID))
    offsets = np.cumsum(np.concatenate(lengths))
    np.save(folder / f"{split}.offsets.npy", offsets)
    num_tokens = int(offsets[-1])
    return {"items": len(offsets) - 1, "tokens": num_tokens, "unk_fraction": num_unknown / max(num_tokens, 1)}
