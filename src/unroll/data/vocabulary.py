"""Which token has which id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

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
        frequent = ((token, count) for token, count in counts.items() if count >= min_count and _is_storable(token))
        ranked = [token for token, _ in sorted(frequent, key=lambda item: (-item[1], item[0]))]
        # A text may spell out "<pad>"; there it is a word like any other, and an unknown one.
        ranked = [token for token in ranked if token not in (cls.PAD, cls.UNK)]
        return cls((cls.PAD, cls.UNK, *ranked)[:vocab_size])

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
        fields = {"format": FORMAT, "digest": self.digest, "tokens": self.tokens}
        (folder / self.FILE_NAME).write_text(json.dumps(fields, ensure_ascii=False, indent=0), encoding="utf-8")

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
