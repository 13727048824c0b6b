"""The sample corpora: made, not copied, with a known optimum, so that nothing need be downloaded to see what works.

Reviews (sample_reviews.py) can be told without a fault by who reads the order of their words, and hardly by who
counts them. Stories (sample_prose.py) come with their exact code length, below which no language model can go.
"""

from __future__ import annotations

from unroll.data.sample_prose import Prose, iter_prose, make_prose, next_character_probabilities
from unroll.data.sample_reviews import CLASS_NAMES, Review, iter_reviews

__all__ = [
    "CLASS_NAMES",
    "Prose",
    "Review",
    "iter_prose",
    "iter_reviews",
    "make_prose",
    "next_character_probabilities",
]
