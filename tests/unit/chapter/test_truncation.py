"""What truncated back-propagation leaves out."""

from __future__ import annotations

import pytest

from unroll.chapter.truncation import HORIZONS, STEPS, adding_gradients, text_gradients


def test_all_the_steps_are_the_whole_gradient_and_text_needs_fewer_of_them() -> None:
    text, adding = text_gradients(), adding_gradients()
    for gradients in (text, adding):
        assert tuple(gradient.horizon for gradient in gradients) == HORIZONS
        assert gradients[-1].horizon == STEPS
        assert (gradients[-1].cosine, gradients[-1].norm_ratio) == pytest.approx((1, 1))
        assert gradients[0].cosine < 0.9
    at_twenty = HORIZONS.index(20)
    assert text[at_twenty].cosine > 0.95 > adding[at_twenty].cosine
    assert text[at_twenty].norm_ratio > adding[at_twenty].norm_ratio
