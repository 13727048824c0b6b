"""A registry to serve from, made in seconds: two classifiers that could each be champion, and a language model.

``python -m benchmarks.serving_registry`` fills the working folder's embedded store (UNROLL_HOME). The models have the
sizes of their preset, hence its speed; they are trained for a few steps, hence not its accuracy.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from flows.embedded import prepare_environment, workplace
from unroll.config import AnyConfig, registered_name
from unroll.presets import load_config

TRAINING = ("training.epochs=1000", "training.device=cpu", "training.precision=float32")
QUICK = ("model.hidden_size=16", "model.embedding_dim=16")
DATA = {
    "sentiment": ("data.source=sample", "data.sample_size=2000"),
    "language_model": ("data.source=sample", "data.sample_size=60000"),
}


def main() -> None:
    """Fill the store of the working folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="sample", help="whose model sizes")
    parser.add_argument("--small", action="store_true", help="models of a few units: for tests")
    parser.add_argument("--steps", type=int, default=20, help="of training")
    arguments = parser.parse_args()
    prepare_environment(workplace())
    sizes = QUICK if arguments.small else ()
    fill_registry(arguments.preset, (*TRAINING, f"training.max_steps={arguments.steps}", *sizes))


def fill_registry(preset: str, overrides: tuple[str, ...]) -> None:
    """Train and register versions 1 and 2 of the classifier and 1 of the language model; the first are champions."""
    import mlflow

    from tasks.registry import CHAMPION, ModelRegistry

    registry = ModelRegistry(mlflow.get_tracking_uri())
    for project, seed in (("sentiment", 1), ("sentiment", 2), ("language_model", 1)):
        config = load_config(project, preset, (*DATA[project], *overrides, f"seed={seed}"))
        number = _register(config, registry)
        if seed == 1:
            registry.set_alias(registry.version(registered_name(config), number), CHAMPION)


def _register(config: AnyConfig, registry: object) -> str:
    from tasks.registry import MODEL_TAG, ModelRegistry
    from tasks.tracking import open_run
    from unroll.config import config_digest

    assert isinstance(registry, ModelRegistry)
    with tempfile.TemporaryDirectory() as scratch, open_run(config, config_digest(config), {}) as run:
        model = _train(config, Path(scratch))
        version = registry.register(
            config, registered_name(config), model, run.run_id, {MODEL_TAG: config_digest(config)}
        )
    return version.number


def _train(config: AnyConfig, scratch: Path) -> Path:
    from unroll.stages import download, encode, train
    from unroll.store import Artifact
    from unroll.training.metrics import SilentLogger

    corpus, encoded, model = (scratch / name for name in ("corpus", "encoded", "model"))
    for folder in (corpus, encoded, model):
        folder.mkdir()
    download(config, corpus)
    encode(config, Artifact("download", "", str(corpus), ""), encoded)
    train(config, Artifact("encode", "", str(encoded), ""), scratch / "work", model, SilentLogger())
    return model


if __name__ == "__main__":
    main()
