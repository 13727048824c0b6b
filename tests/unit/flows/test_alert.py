"""An alert through a command: it gets the words, and what goes wrong with it is said."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import flows.alert
from flows.alert import COMMAND_VARIABLE, alert
from flows.run_names import LONGEST_LINE
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


@pytest.mark.parametrize("command", ["sleep 30", "sleep 30; true", "(sleep 30; true) | cat"])
def test_a_command_that_does_not_end_is_ended_with_what_it_started(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(flows.alert, "SECONDS", 0.3)
    monkeypatch.setenv(COMMAND_VARIABLE, command)
    begun = time.monotonic()
    with pytest.raises(UnrollError, match=r"did not end within 0\.3 s"):
        alert.fn("s", "b")
    assert time.monotonic() - begun < 10


def test_a_command_that_leaves_something_running_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.alert, "SECONDS", 5)
    monkeypatch.setenv(COMMAND_VARIABLE, "sleep 20 & echo sent")
    alert.fn("s", "b")


def test_a_subject_is_one_line_that_an_environment_can_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = tmp_path / "said"
    monkeypatch.setenv(COMMAND_VARIABLE, f'printf "%s" "$UNROLL_ALERT_SUBJECT" > {said}')
    alert.fn("one\nBcc: two\r\x00three\udcff zwölf 電", "b")
    assert said.read_text(encoding="utf-8") == "one Bcc: two three zwölf 電"
    alert.fn("long " * 50_000, "b")
    assert len(said.read_text()) <= LONGEST_LINE


def test_long_words_reach_a_command_that_reads_none_or_all_of_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said, words = tmp_path / "said", "wörter\n" * 100_000 + "\udcff"
    monkeypatch.setenv(COMMAND_VARIABLE, f"cat > {said}")
    alert.fn("s", words)
    assert said.read_text(encoding="utf-8") == words.replace("\udcff", "?")
    monkeypatch.setenv(COMMAND_VARIABLE, "printf '\\377'; true")
    alert.fn("s", words)
