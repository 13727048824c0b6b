"""How a YAML preset and overrides become one frozen, checked config.

All problems of a config are reported at once; a typo is answered with the nearest setting.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from unroll.config import CONFIG_CLASSES, AnyConfig, DriftConfig, Section, flatten
from unroll.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)

PRESETS_FOLDER = Path(__file__).resolve().parents[2] / "configs"


def load_config(project: str, name_or_path: str = "sample", overrides: Sequence[str] = ()) -> AnyConfig:
    """Read a preset by name or path, apply ``section.key=value`` overrides, and check the whole.

    Raises ConfigError: no such preset, not YAML, an unknown setting (with the nearest right one), or a value out of
    bounds.
    """
    path = find_preset(project, name_or_path)
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a YAML file of settings: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); give a YAML file that you may read.") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} holds a {type(settings).__name__}; expected sections with settings, as in configs/.")
    for override in overrides:
        _apply_override(settings, override)
    return make_config(project, settings)


def find_preset(project: str, name_or_path: str) -> Path:
    """The YAML file of a preset given by name (``fast``) or by path. Raises ConfigError with the names there are."""
    if name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path:
        path = Path(name_or_path)
        if not path.is_file():
            raise ConfigError(f"There is no config file {path}; give a YAML file, or one of {_preset_names(project)}.")
        return path
    path = PRESETS_FOLDER / project / f"{name_or_path}.yaml"
    if not path.is_file():
        raise ConfigError(f"There is no preset {name_or_path!r} for {project}; there are {_preset_names(project)}.")
    return path


def make_config(project: str, settings: Mapping[str, Any]) -> AnyConfig:
    """Check plain settings and freeze them. Raises ConfigError listing every problem."""
    if project not in CONFIG_CLASSES:
        raise ConfigError(f"There is no project {project!r}; there are {', '.join(CONFIG_CLASSES)}.")
    return _checked(CONFIG_CLASSES[project], settings)


def _checked(config_class: type[Model], settings: Mapping[str, Any]) -> Model:
    settings = {name: value for name, value in settings.items() if value is not None}  # a section left empty
    try:
        return config_class.model_validate(settings)
    except ValidationError as error:
        names = sorted(setting_names(config_class))
        problems = [_describe_problem(problem, names) for problem in error.errors()]
        raise ConfigError("The settings do not fit:\n" + "\n".join(f"  {line}" for line in problems)) from error


def make_drift_config(overrides: Sequence[str]) -> DriftConfig:
    """The drift settings with ``drift.key=value`` overrides. Raises ConfigError listing every problem."""
    settings: dict[str, Any] = {"drift": {}}
    for override in overrides:
        _apply_override(settings, override)
    return _checked(_DriftSettings, settings).drift


class _DriftSettings(Section):
    drift: DriftConfig = DriftConfig()


def setting_differences(base: AnyConfig, config: AnyConfig) -> list[str]:
    """The overrides, ``section.key=value``, that make ``base`` the other config of its project."""
    before, after = (flatten(each.model_dump(mode="json")) for each in (base, config))
    # JSON is YAML, which overrides are read as
    return [f"{name}={json.dumps(value)}" for name, value in after.items() if before.get(name) != value]


def setting_names(config_class: type[BaseModel], prefix: str = "") -> Iterable[str]:
    """Dotted names of every setting below a model class."""
    for name, field in config_class.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from setting_names(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _preset_names(project: str) -> str:
    names = sorted(path.stem for path in (PRESETS_FOLDER / project).glob("*.yaml"))
    return ", ".join(names) or "none"


def _apply_override(settings: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--set takes section.key=value, got {override!r}; for example training.learning_rate=0.002.")
    try:
        value = yaml.safe_load(text) if text else None
    except yaml.YAMLError as error:
        raise ConfigError(f"The value in --set {override!r} is not YAML: {error}") from error
    *sections, key = name.strip().split(".")
    place = settings
    for section in sections:
        child = {} if place.get(section) is None else place[section]
        place[section] = child
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override!r}: {section!r} is a setting, not a section.")
        place = child
    place[key] = value


def _describe_problem(problem: Any, names: Sequence[str]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        sections = sorted({known.rpartition(".")[0] for known in names} - {""})
        near = [known for known in names if known.rpartition(".")[2] == name.rpartition(".")[2]]
        near = near or difflib.get_close_matches(name, [*names, *sections], n=1, cutoff=0.5)
        return f"unknown setting {name}" + (
            f"; did you mean {near[0]}?" if near else "; see the guide for their names."
        )
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{name}: {message}" if name else message  # a rule between settings names those it is about
    return f"{name}: {message[:1].lower()}{message[1:]}, got {problem['input']!r}" if name else message
