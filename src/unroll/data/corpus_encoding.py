"""From a corpus to its splits as token ids: what the encode stage runs through, and nothing else of the stages."""

from __future__ import annotations

from pathlib import Path

from unroll.config import AnyConfig, LanguageModelConfig, SentimentConfig
from unroll.data.corpora import ReviewCorpus, TextCorpus
from unroll.data.encoded import encode_reviews, encode_text
from unroll.data.splits import cut_text, split_reviews


def encode_corpus(config: AnyConfig, corpus_folder: Path, folder: Path) -> None:
    """Split a corpus, learn the vocabulary from its training split, and write every split into ``folder``.

    Raises DataError where a split would be empty.
    """
    if isinstance(config, LanguageModelConfig):
        _encode_text(config, TextCorpus.open(corpus_folder), folder)
    else:
        _encode_reviews(config, ReviewCorpus.open(corpus_folder), folder)


def _encode_text(config: LanguageModelConfig, corpus: TextCorpus, folder: Path) -> None:
    encode_text(cut_text(corpus, config.data), config.encoding, folder)


def _encode_reviews(config: SentimentConfig, corpus: ReviewCorpus, folder: Path) -> None:
    splits = split_reviews(corpus, config.data, config.seed)
    places = {name: splits.place(name) for name in ("train", "validation", "test")}
    encode_reviews(
        lambda split: corpus.iter_texts(*places[split]),
        {split: corpus.labels(source)[rows] for split, (source, rows) in places.items()},
        {split: rows for split, (_, rows) in places.items()},
        corpus.class_names,
        config.encoding,
        folder,
    )
