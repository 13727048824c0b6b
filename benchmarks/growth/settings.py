"""What both kinds of points share. No PyTorch in here."""

from __future__ import annotations

ENDLESS = ("training.epochs=100000", "training.checkpoint_seconds=1000000", "training.device=cpu")
"""Settings with which nothing but steps happens."""
CLOCK_GRAIN = 0.01
"""Seconds of the finest difference that the clock of CPU time tells."""
