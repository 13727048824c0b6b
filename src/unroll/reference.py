"""What a trained model saw of its validation split: kept in the model's folder, for drift to be measured against.

The validation split, not the training split: the vocabulary is that of the training split, so nothing is unknown
there, and its texts are those that the model is surest of.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unroll.data.encoded import EncodedCorpus, EncodedSplit
from unroll.data.vocabulary import Vocabulary
from unroll.files import write_json
from unroll.models.classifier import SentimentClassifier
from unroll.models.language_model import CharLanguageModel
from unroll.sample_statistics import SampleStatistics, count_passages, count_reviews
from unroll.scoring import WARM_UP, Sequences, score_reviews, score_text

logger = logging.getLogger(__name__)

FILE_NAME = "reference.json"
PASSAGE_CHARACTERS = 500
"""Characters of a passage: a paragraph or two, long enough to be nearly independent of its neighbour."""
MOST_CHARACTERS = 1_000_000
"""Of the validation text; more make the reference no better and take memory."""
NATS_PER_BIT = float(np.log(2.0))


def write_reference(model: nn.Module, corpus: EncodedCorpus, device: torch.device, folder: Path) -> None:
    """Score the validation split and write its statistics into a model folder. The model is left in evaluation mode."""
    write_json(folder / FILE_NAME, reference_of(model, corpus, device).to_dict())


def reference_of(model: nn.Module, corpus: EncodedCorpus, device: torch.device) -> SampleStatistics:
    """The statistics of the validation split under a model."""
    split = corpus.split("validation")
    with torch.inference_mode():
        if isinstance(model, CharLanguageModel):
            return _of_text(model, corpus, split, device)
        assert isinstance(model, SentimentClassifier)
        probs = score_reviews(model, split, device, "float32")
    return count_reviews(split.lengths, count_unknown(split), probs, corpus.class_names)


def read_reference(folder: Path) -> SampleStatistics | None:
    """What `write_reference` left; None for a model made before there were references, or with a damaged one."""
    path = folder / FILE_NAME
    try:
        return SampleStatistics.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("%s cannot be read (%s); drift is not known", path.name, error)
        return None


def count_unknown(texts: Sequences) -> NDArray[np.int64]:
    """(N,): `<unk>` ids of each text."""
    unknown = [np.count_nonzero(np.asarray(texts.item(index)) == Vocabulary.UNK_ID) for index in range(len(texts))]
    return np.array(unknown, np.int64)


def sum_passages(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) per character to sums over passages of PASSAGE_CHARACTERS, the last one of as many as are left."""
    if len(values) == 0:
        return np.empty(0)
    sums: NDArray[np.float64] = np.add.reduceat(values, range(0, len(values), PASSAGE_CHARACTERS))
    return sums


def _of_text(
    model: CharLanguageModel, corpus: EncodedCorpus, split: EncodedSplit, device: torch.device
) -> SampleStatistics:
    token_ids = np.asarray(split.tokens[:MOST_CHARACTERS])
    before = np.asarray(corpus.split("train").tokens[-WARM_UP - 1 :])
    nats = score_text(model, token_ids, before, device, "float32", corpus.vocab_size)
    return passages_of(nats, token_ids)


def passages_of(nats: NDArray[np.float64], token_ids: NDArray[np.integer]) -> SampleStatistics:
    """The statistics of a text whose characters cost ``nats``; both (N,)."""
    unknown = (np.asarray(token_ids) == Vocabulary.UNK_ID).astype(np.float64)
    characters = sum_passages(np.ones(len(nats)))
    return count_passages(sum_passages(nats / NATS_PER_BIT), characters, sum_passages(unknown))
