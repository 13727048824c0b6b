"""Markdown out of text that nobody vouches for: settings, reasons and messages that must neither break a table nor act.

What is written here reads the same in GitHub's and GitLab's comments and in plain CommonMark. A text stays text: no
markup, no HTML, no link, no mention of a user and no reference to an issue comes out of it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

LONGEST_CELL = 200
LONGEST_TEXT = 3_000
LONGEST_BLOCK = 6_000
JOINER = "\N{WORD JOINER}"
"""Invisible. Character references keep `@` and `#` from Markdown, not from the filters that run on what it made."""
# in any other place a character reference stands for the character and never for markup
ACTIVE = re.compile(r"[\\`*_\[\]<>|~&$^!{}@#]|(?<=\w):(?=//)|(?<=www)\.")
PLAIN_CODE = re.compile(r"[^`|\\]+")


def inert(text: str, longest: int = LONGEST_TEXT) -> str:
    """A text as prose within a line or a cell of a table."""
    return ACTIVE.sub(_reference, _one_line(text, longest))


def code(text: str, longest: int = LONGEST_CELL) -> str:
    """A text in a code span, where it can be one in a cell of a table too; else as prose."""
    line = _one_line(text, longest)
    return f"`{line}`" if PLAIN_CODE.fullmatch(line) and line.strip() == line else inert(text, longest) or "(empty)"


def block(text: str) -> list[str]:
    """A text of several lines, as it is, in a fenced block that nothing in it can end."""
    kept = "".join(character for character in text if character in "\n\t" or not _is_control(character))
    kept = kept if len(kept) <= LONGEST_BLOCK else kept[:LONGEST_BLOCK] + "\n… (cut)"
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", kept)), default=0))
    return [f"{fence}text", *kept.strip("\n").split("\n"), fence]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table of cells that are Markdown already."""
    for line in (heads, ["---"] * len(heads), *rows):
        yield f"| {' | '.join(line)} |"


def _reference(found: re.Match[str]) -> str:
    return f"&#{ord(found[0])};" + (JOINER if found[0] in "@#" else "")


def _one_line(text: str, longest: int) -> str:
    kept = " ".join("".join(" " if _is_control(character) else character for character in text).split())
    return kept if len(kept) <= longest else kept[:longest] + "…"


def _is_control(character: str) -> bool:
    # Cf: also what turns the direction of a text round
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
