"""What a row's process tells the command that started it: one JSON object a line on stdout."""

from __future__ import annotations

import json
from typing import Any


def say(event: dict[str, Any]) -> None:
    """Tell an event: {"event": "note" | "bout" | "row", …}."""
    print(json.dumps(event), flush=True)


def note(text: str) -> None:
    """Tell what goes on."""
    say({"event": "note", "text": text})
