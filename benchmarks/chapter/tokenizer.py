"""The chapter's words: tags dropped, lower case, other signs to spaces, emoticons kept and put at the end."""

from __future__ import annotations

import re


def tokenize(text: str) -> list[str]:
    """Tokens of a review."""
    plain = re.sub(r"<[^>]*>", "", text)
    emoticons = re.findall(r"[:;=]-?[()DP]", plain.lower())
    words = re.sub(r"\W+", " ", plain.lower())
    return (words + " ".join(emoticons).replace("-", "")).split()
