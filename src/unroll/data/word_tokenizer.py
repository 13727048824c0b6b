"""The Hugging Face tokenizer behind the encoders `word` and `subword`: how it cuts, learns and is read back.

The only module that imports `tokenizers`, and only inside its functions.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from unroll.data.text import replace_surrogates
from unroll.data.vocabulary import Vocabulary
from unroll.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from unroll.config import WordEncodingConfig

FILE_NAME = "tokenizer.json"
WORD_START = "\N{LOWER ONE EIGHTH BLOCK}"
"""Stands before the first piece of each word, as in SentencePiece."""

# An opening or closing tag; unlike the book's pattern it spares "<3" and cannot swallow the text between "<" and "<".
_TAG = r"</?[a-z!][^<>]*>"
# Words; the endings of contractions apart, so that every "n't" is one and the same token; punctuation marks one by
# one, of a run of the same mark the last three. The bound on a verb's length keeps a very long word cheap.
_WORD_OR_MARK = r"\w{1,8}?(?=n't\b)|n't\b|'(?:s|re|ve|ll|d|m)\b|\w+|([^\w\s])(?!\1\1\1)"
# The trainers reserve memory for the vocabulary size that they are given.
_MOST_TOKENS = 1_000_000


def train_tokenizer(config: WordEncodingConfig, chunks: Iterable[list[str]]) -> tuple[Tokenizer, Vocabulary]:
    """Learn words (`config.tokenizer` is "word") or byte-pair pieces of words ("subword") from texts, read once.

    Raises ConfigError if the `tokenizers` package is missing, or where the characters alone fill the vocabulary.
    """
    tokenizers = import_tokenizers()
    whole_words = config.tokenizer == "word"
    if whole_words:
        model, trainer = tokenizers.models.WordLevel(unk_token=Vocabulary.UNK), tokenizers.trainers.WordLevelTrainer
    else:
        model = tokenizers.models.BPE(unk_token=Vocabulary.UNK, fuse_unk=True)
        trainer = tokenizers.trainers.BpeTrainer
    learner = _assemble(tokenizers, model, whole_words)
    texts = ([replace_surrogates(text) for text in chunk] for chunk in chunks)
    learner.train_from_iterator(
        texts,
        trainer(
            vocab_size=config.vocab_size or _MOST_TOKENS,
            min_frequency=config.min_count,
            special_tokens=[Vocabulary.PAD, Vocabulary.UNK],
            show_progress=False,
        ),
    )
    # The trainer also made <pad> and <unk> "added tokens", found inside a user's text; the bare model has none.
    tokenizer = _assemble(tokenizers, learner.model, whole_words)
    vocabulary = vocabulary_of(tokenizer)
    if config.vocab_size and len(vocabulary) > config.vocab_size:
        # Every character is a piece. The trainer can drop rare ones, but not the same ones each time.
        raise ConfigError(
            f"The training texts have {len(vocabulary) - 2} distinct characters, too many for encoding.vocab_size="
            f"{config.vocab_size} byte-pair pieces; set a larger one, or encoding.tokenizer=word."
        )
    return tokenizer, vocabulary


def vocabulary_of(tokenizer: Tokenizer) -> Vocabulary:
    """The tokenizer's tokens in the order of their ids."""
    ids_by_token = tokenizer.get_vocab()
    return Vocabulary(tuple(sorted(ids_by_token, key=ids_by_token.__getitem__)))


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> str:
    """Write tokenizer.json; returns its SHA-256 (hex)."""
    content = tokenizer.to_str().encode()
    (folder / FILE_NAME).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def load_tokenizer(folder: Path, sha256: str) -> Tokenizer:
    """Read tokenizer.json. Raises CheckpointError if it is missing or not the file that was written."""
    path = folder / FILE_NAME
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); copy all of an encoder's files.") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise CheckpointError(f"{path} has SHA-256 {found}, expected {sha256}; it was changed: encode again.")
    tokenizer: Tokenizer = import_tokenizers().Tokenizer.from_str(content.decode())
    return tokenizer


@cache
def import_tokenizers() -> ModuleType:
    """The package, its threads allowed here and forbidden in forked children, where they would never wake up.

    Raises ConfigError if it is not installed.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise ConfigError(
            "The tokenizers `word` and `subword` need the package `tokenizers`, which is not installed here; "
            "install it, or set encoding.tokenizer=book."
        ) from error
    # Unset, the package itself takes its threads away from a forked child, but prints a warning there.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forbid_threads)
    return tokenizers


def _forbid_threads() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _assemble(tokenizers: ModuleType, model: Any, whole_words: bool) -> Tokenizer:
    normalizers, pre_tokenizers = tokenizers.normalizers, tokenizers.pre_tokenizers
    tokenizer: Tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            normalizers.Replace(tokenizers.Regex(_TAG), " "),
            normalizers.Replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"),
            normalizers.Replace(WORD_START, " "),
        ]
    )
    words = pre_tokenizers.Split(tokenizers.Regex(_WORD_OR_MARK), behavior="removed", invert=True)
    # A marked start tells "in" from the end of "begin". The trainer's own mark for later pieces ("##") numbers them in
    # another order each time.
    marks = pre_tokenizers.Metaspace(WORD_START, prepend_scheme="always", split=False)
    tokenizer.pre_tokenizer = words if whole_words else pre_tokenizers.Sequence([words, marks])
    return tokenizer
