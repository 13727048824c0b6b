"""Settings: unknown names, bounds, presets and overrides are checked, all problems at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from unroll.config import CONFIG_CLASSES, LanguageModelConfig, SentimentConfig, config_digest, flatten, registered_name
from unroll.errors import ConfigError
from unroll.presets import PRESETS_FOLDER, load_config, make_config, setting_names

PRESETS = sorted(PRESETS_FOLDER.glob("*/*.yaml"))


def flat(*overrides: str, project: str = "sentiment") -> dict[str, Any]:
    return flatten(load_config(project, "sample", overrides).model_dump(mode="json"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_preset_loads_and_names_only_real_settings(path: Path) -> None:
    project = path.parent.name
    config = load_config(project, path.stem)
    written = flatten(yaml.safe_load(path.read_text()))
    assert set(written) <= set(setting_names(CONFIG_CLASSES[project]))
    loaded = flatten(config.model_dump(mode="json"))
    assert {name: loaded[name] for name in written} == written


def test_there_are_presets_for_both_projects() -> None:
    assert {path.parent.name for path in PRESETS} == set(CONFIG_CLASSES)
    assert all((PRESETS_FOLDER / project / "sample.yaml").is_file() for project in CONFIG_CLASSES)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("training.learning_rat", "training.learning_rate"),
        ("training.hidden_size", "model.hidden_size"),
        ("training.max_length", "encoding.max_length"),
        ("learning_rate", "training.learning_rate"),
        ("model.biderectional", "model.bidirectional"),
        ("traning.epochs", "training"),
        ("registry.gate.alfa", "registry.gate.alpha"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest_name(name: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=rf"unknown setting {name.split('.')[0]}.*did you mean {nearest}\?"):
        load_config("sentiment", "sample", [f"{name}=1"])


def test_the_window_belongs_to_the_language_model_alone() -> None:
    assert flat("training.window=7", project="language_model")["training.window"] == 7
    with pytest.raises(ConfigError, match=r"unknown setting training\.window"):
        load_config("sentiment", "sample", ["training.window=7"])


@pytest.mark.parametrize(
    "override",
    [
        "training.learning_rate=0",
        "training.learning_rate=-1",
        "training.learning_rate=.nan",
        "training.max_minutes=.inf",
        "training.epochs=0",
        "training.epochs=1.5",
        "training.batch_size=0",
        "training.clip=maybe",
        "training.betas=[0.9]",
        "training.processes=2",
        "data.validation_fraction=0.5",
        "data.validation_fraction=0",
        "model.cell=lstn",
        "model.pooling=[]",
        "model.pooling=[first]",
        "model.dropout=1",
        "seed=-1",
        "seed=abc",
        "seed=2147483648",
        "registry.name=a/b",
        "registry.name=''",
        "training=3",
        "project=language_model",
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(override: str) -> None:
    with pytest.raises(ConfigError, match=override.partition("=")[0].replace(".", r"\.") + r".*, got "):
        load_config("sentiment", "sample", [override])


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        load_config("sentiment", "sample", ["training.epochs=0", "model.cel=gru", "seed=x"])
    message = str(refused.value)
    assert all(name in message for name in ("training.epochs", "model.cel;", "model.cell", "seed"))
    assert len(message.splitlines()) == 4


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("training.learning_rate=1e-3", 0.001),
        ("training.learning_rate=0.002", 0.002),
        ("training.max_minutes=10", 10.0),
        ("training.max_steps=null", None),
        ("training.max_steps=", None),
        ("training.betas=[0.8, 0.9]", [0.8, 0.9]),
        ("model.pooling=[last,max]", ["last", "max"]),
        ("model.bidirectional=false", False),
        ("data.source=/some/folder/a=b.csv", "/some/folder/a=b.csv"),
        ("registry.gate.alpha=0.01", 0.01),
        ("encoding.vocab_size=null", None),
        (" seed =7", 7),
    ],
)
def test_overrides_are_yaml_values(override: str, value: object) -> None:
    assert flat(override)[override.partition("=")[0].strip()] == value


def test_later_overrides_win() -> None:
    assert flat("seed=3", "seed=4")["seed"] == 4


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed", "takes section.key=value"),
        ("=3", "takes section.key=value"),
        ("training.betas=[0.9", "is not YAML"),
        ("seed.x=1", "'seed' is a setting, not a section"),
    ],
)
def test_an_override_that_cannot_be_read_says_how_to_write_it(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config("sentiment", "sample", ["seed=0", override])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("- a\n", "holds a list"),
        ("a: [", "is not a YAML file"),
        ("\xff", "is not a YAML file"),
        ("1: 2", "should be string"),
    ],
)
def test_a_file_that_is_no_preset_is_refused(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=words):
        load_config("sentiment", str(path))


def test_an_empty_file_and_an_empty_section_mean_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("training:\n")
    assert load_config("sentiment", str(path)) == SentimentConfig()
    assert load_config("sentiment", str(path), ["training.epochs=9"]).training.epochs == 9
    path.write_text("")
    assert load_config("language_model", str(path)) == LanguageModelConfig()


def test_a_preset_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no preset 'slow' for sentiment; there are .*sample"):
        load_config("sentiment", "slow")
    with pytest.raises(ConfigError, match=r"no config file .*none\.yaml"):
        load_config("sentiment", str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match="no project 'translation'; there are sentiment, language_model"):
        make_config("translation", {})


def test_tied_weights_need_equal_sizes() -> None:
    with pytest.raises(ConfigError, match=r"model: tie_weights needs embedding_dim = hidden_size, got 100 and 128$"):
        make_config("language_model", {"model": {"tie_weights": True}})
    config = make_config("language_model", {"model": {"tie_weights": True, "embedding_dim": 64, "hidden_size": 64}})
    assert isinstance(config, LanguageModelConfig)
    assert config.model.tie_weights


def test_settings_are_frozen_and_their_digest_tells_them_apart() -> None:
    config = load_config("sentiment")
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 3
    assert config_digest(config) == config_digest(load_config("sentiment"))
    assert config_digest(config) != config_digest(load_config("sentiment", "sample", ["seed=99"]))


def test_every_setting_has_a_description() -> None:
    def undescribed(model: Any) -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                found += undescribed(field.annotation)
            elif not field.description and name != "project":
                found.append(f"{model.__name__}.{name}")
        return found

    assert [name for config_class in CONFIG_CLASSES.values() for name in undescribed(config_class)] == []


def test_the_registered_name_is_the_projects_unless_it_is_set() -> None:
    assert registered_name(load_config("language_model")) == "unroll-language-model"
    assert registered_name(load_config("sentiment", "sample", ["registry.name=mine"])) == "mine"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["registry.gate.minimum_gain=0.01", "registry.gate.non_inferiority_margin=0.02"], "set one of them"),
        (["registry.gate.must_beat_rival=true", "evaluation.rival=false"], "set evaluation.rival to true"),
        (["registry.gate.floor=85"], "a share of the test items, from 0 to below 1, got 85"),
        (["registry.gate.non_inferiority_margin=2"], "a share of the test items"),
        (["registry.gate.non_inferiority_margin=0"], "greater than 0, got 0"),
    ],
)
def test_a_gate_that_contradicts_itself_is_refused_in_words(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config("sentiment", "sample", overrides)


def test_bits_are_no_fraction() -> None:
    config = load_config("language_model", "sample", ["registry.gate.floor=2.5", "registry.gate.minimum_gain=0.02"])
    assert config.registry.gate.bar == 0.02
