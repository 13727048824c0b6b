"""Which token has which id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from unroll.errors import CheckpointError, UnrollError

FORMAT = 1


@dataclass(frozen=True)
class Vocabulary:
    """Tokens in the order of their ids: `<pad>` is 0, `<unk>` is 1.

    Raises CheckpointError where the two are missing or a token stands twice.
    """

    tokens: tuple[str, ...]

    PAD: ClassVar[str] = "<pad>"
    UNK: ClassVar[str] = "<unk>"
    PAD_ID: ClassVar[int] = 0
    UNK_ID: ClassVar[int] = 1
    FILE_NAME: ClassVar[str] = "vocabulary.json"

    def __post_init__(self) -> None:
        if self.tokens[:2] != (self.PAD, self.UNK):
            raise CheckpointError(
                f"A vocabulary begins with {self.PAD} and {self.UNK}, got {list(self.tokens[:2])}; encode again."
            )
        if len(set(self.tokens)) != len(self.tokens):
            raise CheckpointError("A vocabulary holds each token once, this one holds some twice; encode again.")

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def build(cls, counts: Mapping[str, int], vocab_size: int | None = None, min_count: int = 1) -> Vocabulary:
        """The most frequent tokens first, equal counts in the order of the tokens' code points.

        counts: occurrences of each token in the training split. vocab_size: most ids, the two special ones counted;
        None keeps all. Tokens below min_count, and those that UTF-8 cannot carry (lone surrogates), are left out.
        """
        # A text may spell out "<pad>"; there it is a word like any other, and an unknown one.
        tokens = [token for token in counts if token not in (cls.PAD, cls.UNK) and _is_storable(token)]
        occurrences = np.array([counts[token] for token in tokens], np.int64)
        return cls.of_ranked(tokens, rank_tokens(tokens, occurrences, vocab_size, min_count))

    @classmethod
    def of_ranked(cls, tokens: Sequence[str], places: NDArray[np.int64]) -> Vocabulary:
        """The tokens at these places, as `rank_tokens` gives them."""
        return cls((cls.PAD, cls.UNK, *map(tokens.__getitem__, places.tolist())))

    @cached_property
    def ids_by_token(self) -> dict[str, int]:
        """Ids of the tokens that a text can hold, so without the two special ones."""
        return {token: token_id for token_id, token in enumerate(self.tokens) if token_id > self.UNK_ID}

    def ids(self, tokens: Iterable[str]) -> list[int]:
        """The id of each token, 1 where it is unknown."""
        ids_by_token = self.ids_by_token
        return [ids_by_token.get(token, 1) for token in tokens]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over the tokens in order."""
        return hashlib.sha256(json.dumps(self.tokens).encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write vocabulary.json into the folder."""
        # Laid out as by json.dumps with indent=0, which takes four times as long.
        tokens = json.dumps(self.tokens, ensure_ascii=False, separators=(",\n", ":"))
        content = f'{{\n"format": {FORMAT},\n"digest": "{self.digest}",\n"tokens": [\n{tokens[1:-1]}\n]\n}}'
        (folder / self.FILE_NAME).write_text(content, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """Read vocabulary.json. Raises CheckpointError if it is missing, damaged or of another format."""
        path = folder / cls.FILE_NAME
        fields = read_json(path, FORMAT, CheckpointError)
        tokens = fields.get("tokens")
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise CheckpointError(f"{path} holds no list of tokens; it is damaged: encode again.")
        vocabulary = cls(tuple(tokens))
        if vocabulary.digest != fields.get("digest"):
            raise CheckpointError(
                f"{path} has digest {vocabulary.digest}, expected {fields.get('digest')}; it was changed: encode again."
            )
        return vocabulary


def rank_tokens(
    tokens: Sequence[str], counts: NDArray[np.int64], vocab_size: int | None = None, min_count: int = 1
) -> NDArray[np.int64]:
    """Places of the tokens that `Vocabulary.build` keeps, in the order of their ids from 2 on.

    tokens: distinct, without special ones and lone surrogates. counts: of each, (tokens,).
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kept = np.flatnonzero(counts >= max(min_count, 1))
    # Arrow compares UTF-8, whose order is that of the code points.
    names = pa.array(tokens, pa.large_string()).take(pa.array(kept))
    table = pa.table({"token": names, "count": counts[kept]})
    order: NDArray[np.uint64] = pc.sort_indices(table, [("count", "descending"), ("token", "ascending")]).to_numpy()
    return kept[order][: None if vocab_size is None else vocab_size - 2]


def read_json(path: Path, expected_format: int, error_class: type[UnrollError]) -> dict[str, Any]:
    """The fields of a JSON file of ours. Raises error_class if it is missing, damaged or of another format."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise error_class(
            f"{path} cannot be read ({error.strerror}); make it again with the stage that writes it."
        ) from error
    except ValueError as error:
        raise error_class(f"{path} is not JSON in UTF-8 ({error}); it is damaged: make it again.") from error
    found = fields.get("format") if isinstance(fields, dict) else None
    if found != expected_format:
        raise error_class(f"{path} has format {found}, expected {expected_format}; make it again with this version.")
    return dict(fields)


def _is_storable(token: str) -> bool:
    return token.isascii() or not any("\ud800" <= character <= "\udfff" for character in token)
