from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from unroll.config import WordEncodingConfig
from unroll.data.word_tokenizer import train_tokenizer
from unroll.errors import ConfigError


def random_texts() -> list[str]:
    letters = random.Random(1)
    words = ["".join(letters.choices("abcdefgh", k=letters.randint(1, 6))) for _ in range(300)]
    return [" ".join(letters.choices(words, k=30)) for _ in range(100)]


@pytest.mark.parametrize("kind", ["word", "subword"])
def test_training_again_gives_the_same_tokenizer_to_the_byte(kind: str) -> None:
    config = WordEncodingConfig.model_validate({"tokenizer": kind, "vocab_size": 200})
    contents = {train_tokenizer(config, iter([random_texts()]))[0].to_str() for _ in range(4)}
    assert len(contents) == 1


def test_more_characters_than_ids_is_a_config_error_that_says_what_to_set() -> None:
    config = WordEncodingConfig(tokenizer="subword", vocab_size=10)
    with pytest.raises(ConfigError, match=r"encoding\.vocab_size=10"):
        train_tokenizer(config, iter([["abcdefghijklmnopqrstuvwxyz"]]))


def test_the_trained_tokenizer_finds_no_special_token_in_a_text() -> None:
    tokenizer, vocabulary = train_tokenizer(WordEncodingConfig(tokenizer="word"), iter([["good movie"]]))
    assert tokenizer.get_added_tokens_decoder() == {}
    assert vocabulary.tokens[:2] == ("<pad>", "<unk>")


FORKING = """
import os
from unroll.config import WordEncodingConfig
from unroll.data.encoders import train_encoder
encoder = train_encoder(WordEncodingConfig(), iter([["good movie"] * 100]))
encoder.encode_batch(["good movie"] * 100)
child = os.fork()
if child == 0:
    encoder.encode_batch(["good movie"] * 100)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_encodes_without_hanging_and_without_a_warning() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run(
        [sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("7", "")
