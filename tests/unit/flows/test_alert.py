"""An alert through a command: it gets the words, and what goes wrong with it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

import flows.alert
from flows.alert import COMMAND_VARIABLE, alert
from unroll.errors import UnrollError


def test_the_command_gets_subject_and_body_as_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = tmp_path / "said"
    monkeypatch.setenv(COMMAND_VARIABLE, f'(printf "%s|" "$UNROLL_ALERT_SUBJECT"; cat) > {said}')
    alert.fn("one; rm -rf $HOME `id`", 'two "$(id)"\nthree')
    assert said.read_text() == 'one; rm -rf $HOME `id`|two "$(id)"\nthree'


def test_a_command_that_fails_or_is_not_there_is_an_error_with_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMAND_VARIABLE, "echo no such list >&2; exit 3")
    with pytest.raises(UnrollError, match="ended with 3: no such list"):
        alert.fn("s", "b")
    monkeypatch.setenv(COMMAND_VARIABLE, " ")
    with pytest.raises(UnrollError, match=f"{COMMAND_VARIABLE} is not set where the worker runs"):
        alert.fn("s", "b")


def test_a_command_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.alert, "SECONDS", 0.2)
    monkeypatch.setenv(COMMAND_VARIABLE, "sleep 30")
    with pytest.raises(UnrollError, match=r"did not end within 0\.2 s"):
        alert.fn("s", "b")
