"""Class names: how labels as people write them (integers, names, booleans) become 0 .. K-1."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from unroll.errors import DataError

MAX_CLASSES = 1_000
"""More different labels than this are taken for a wrongly named column."""

_WHOLE_NUMBER = re.compile(r"([+-]?\d{1,18})(\.0*)?")


@dataclass(frozen=True)
class LabelMap:
    """Names of the classes in the order of their ids, and other spellings that the source uses."""

    names: tuple[str, ...]
    aliases: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_labels(cls, names: Iterable[str], order: Sequence[str] | None, where: str) -> LabelMap:
        """Sort the names found in the training rows: whole numbers by value, others by code point.

        ``order`` (a ClassLabel's own) wins over sorting. Raises DataError for fewer than two classes.
        """
        found = set(names)
        if order is not None:
            ordered = [name for name in order if name in found]
        elif all(_WHOLE_NUMBER.fullmatch(name) for name in found):
            ordered = sorted(found, key=int)
        else:
            ordered = sorted(found)
        if len(ordered) < 2:
            raise DataError(
                f"{where} holds {_count(ordered)}; expected two classes or more. "
                "Add rows of another class, or name another column with --set data.label_column=NAME."
            )
        return cls(tuple(ordered))

    def find(self, name: str) -> int | None:
        """Id of a class by its name (as `label_name` spells it) or alias; None for a class never seen."""
        return self._ids().get(name)

    def _ids(self) -> dict[str, int]:
        return {**self.aliases, **{name: index for index, name in enumerate(self.names)}}


def label_name(value: object) -> str | None:
    """One spelling per class: ``1``, ``1.0``, ``"1"`` and ``" 1 "`` are one; so are ``True`` and ``"true"``.

    None for a missing label (null, NaN, blank). Raises DataError for a value that names no class, such as 3.7.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str):
        return _spelling(value.strip()) or None
    raise DataError(f"a label is {value!r} ({type(value).__name__}); expected an integer, a boolean or a class name")


def _spelling(text: str) -> str:
    number = _WHOLE_NUMBER.fullmatch(text)
    if number:
        return str(int(number[1]))
    return text.lower() if text.lower() in ("true", "false") else text


def _count(names: Sequence[str]) -> str:
    return f"one class, {names[0]!r}" if names else "no labels"
