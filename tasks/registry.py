"""The model registry: versions, aliases, and the folder of a version, over MLflow's client."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from tasks.ledger import LEDGER_TAG, PAGE, Ledger
from tasks.tracking import reaching_mlflow
from unroll.config import AnyConfig, LanguageModelConfig
from unroll.errors import RegistryError
from unroll.store import MANIFEST

CHAMPION = "champion"
CHALLENGER = "challenger"
MODEL_TAG = "unroll.model_digest"
WEIGHTS_TAG = "unroll.weights_sha256"
VOCABULARY_TAG = "unroll.vocabulary_sha256"
TEST_TAG = "unroll.test_digest"


@dataclass(frozen=True)
class Version:
    """One version of a registered model."""

    name: str
    number: str
    run_id: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    created: float
    """Seconds since 1970."""

    @property
    def uri(self) -> str:
        """What `mlflow.pyfunc.load_model` takes."""
        return f"models:/{self.name}/{self.number}"


class ModelRegistry:
    """The registry at one tracking address. Every method raises RegistryError where MLflow does not do its part."""

    def __init__(self, tracking_uri: str) -> None:
        """Nothing is asked of the registry yet."""
        self.tracking_uri = tracking_uri
        self._client = MlflowClient(tracking_uri=tracking_uri)

    def names(self) -> list[str]:
        """Names of the registered models, their ledgers left out."""
        names, token = list[str](), None
        while True:
            with reaching_mlflow(self._client):
                page = self._client.search_registered_models(max_results=PAGE, page_token=token)
            names += [model.name for model in page if LEDGER_TAG not in (model.tags or {})]
            token = page.token
            if not token:
                return sorted(names)

    def ledger(self, name: str) -> Ledger:
        """The decisions on a model."""
        return Ledger(self._client, name)

    def versions(self, name: str) -> list[Version]:
        """Every version, newest first; none where the model was never registered."""
        with reaching_mlflow(self._client):
            aliases = self._aliases(name)
            found = self._client.search_model_versions(f"name = '{name}'")
            versions = [_version(version, aliases) for version in found]
        return sorted(versions, key=lambda version: -int(version.number))

    def champion(self, name: str) -> Version | None:
        """What the alias ``champion`` names, or None where the registry itself says that there is no such alias.

        Good for using a model. Whoever is to decide on one asks `tasks.promotion`, which trusts no alias.
        """
        return self.by_alias(name, CHAMPION)

    def by_alias(self, name: str, alias: str) -> Version | None:
        """The version that an alias names, or None where the registry itself says that there is no such alias."""
        with reaching_mlflow(self._client):
            aliases = self._aliases(name)
            if alias not in aliases:
                return None
            return _version(self._client.get_model_version(name, aliases[alias]), aliases)

    def version(self, name: str, number: str) -> Version:
        """One version by its number. Raises RegistryError where there is none, such as one that was deleted."""
        try:
            with reaching_mlflow(self._client):
                return _version(self._client.get_model_version(name, number), self._aliases(name))
        except RegistryError as error:
            if not _says_missing(error):
                raise
            raise RegistryError(
                f"Version {number} of {name} is not in the registry at {self.tracking_uri}: it was deleted, or never "
                f"was. If it was the champion, unroll models rollback {name} goes back to the one before."
            ) from error

    def register(
        self, config: AnyConfig, name: str, model_folder: Path, run_id: str, tags: Mapping[str, str]
    ) -> Version:
        """Log a model folder under a run and add it as a version of ``name``.

        A version made from the same folder by a run that was killed afterwards is taken instead of a second one.
        """
        digest = tags[MODEL_TAG]
        for version in self.versions(name):
            if version.tags.get(MODEL_TAG) == digest:
                return version
        with reaching_mlflow(self._client), tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            shutil.copytree(model_folder, folder, ignore=shutil.ignore_patterns(MANIFEST))
            mlflow.set_tracking_uri(self.tracking_uri)
            with mlflow.start_run(run_id=run_id):
                info = mlflow.pyfunc.log_model(
                    name=name,
                    python_model=str(Path(__file__).with_name("pyfunc.py")),
                    artifacts={"model": str(folder)},
                    **signature_and_example(config),
                    pip_requirements=["unroll", f"mlflow=={mlflow.__version__}"],
                )
            self._make_model(name)
            made = self._client.create_model_version(
                name, info.model_uri, run_id, tags=dict(tags), model_id=info.model_id
            )
        return self.version(name, str(made.version))

    def resolve(self, name: str, spec: str | None) -> Version:
        """The version that a user means.

        spec: None for the champion; a version number; an alias; ``model/3`` or ``model@alias``; or the id of a run
        whose model was registered. Raises RegistryError with what there is.
        """
        spec = spec or CHAMPION
        for separator in "/@":
            if separator in spec:
                name, _, spec = spec.partition(separator)
        versions = self.versions(name)
        if spec == CHAMPION and versions and self.ledger(name).follow(CHAMPION):
            versions = self.versions(name)
        for version in versions:
            if spec in (version.number, version.run_id, *version.aliases):
                return version
        if not versions:
            there = ", ".join(self.names()) or "none"
            raise RegistryError(
                f"There is no registered model {name} at {self.tracking_uri} (there: {there}); train one with "
                "'unroll run', or run where it was trained."
            )
        aliases = sorted({alias for version in versions for alias in version.aliases})
        there = ", ".join([*(version.number for version in versions[:10]), *aliases])
        raise RegistryError(f"{name} has no version, alias or run {spec!r}; there are {there}.")

    def set_alias(self, version: Version, alias: str) -> None:
        """Point an alias at a version."""
        with reaching_mlflow(self._client):
            self._client.set_registered_model_alias(version.name, alias, version.number)

    def drop_alias(self, name: str, alias: str) -> None:
        """Take an alias away, if it is there."""
        with reaching_mlflow(self._client):
            self._client.delete_registered_model_alias(name, alias)

    def tag(self, version: Version, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        with reaching_mlflow(self._client):
            for key, value in tags.items():
                self._client.set_model_version_tag(version.name, version.number, key, value)

    def describe(self, version: Version, text: str) -> None:
        """Set a version's description, Markdown."""
        with reaching_mlflow(self._client):
            self._client.update_model_version(version.name, version.number, text)

    def card(self, version: Version) -> str | None:
        """A version's model card, Markdown; its description where the run's artifact is gone, None without either."""
        from tasks.card import card_name

        with reaching_mlflow(self._client):
            try:
                with tempfile.TemporaryDirectory() as scratch:
                    name = card_name(version.name, version.number)
                    return Path(self._client.download_artifacts(version.run_id, name, scratch)).read_text("utf-8")
            except (MlflowException, OSError):
                return self._client.get_model_version(version.name, version.number).description or None

    @contextmanager
    def model_folder(self, version: Version) -> Iterator[Path]:
        """The model folder of a version, copied out of the registry for the length of the block."""
        with tempfile.TemporaryDirectory() as scratch:
            with reaching_mlflow(self._client):
                local = mlflow.artifacts.download_artifacts(
                    artifact_uri=f"{version.uri}/artifacts/model", dst_path=scratch, tracking_uri=self.tracking_uri
                )
            yield Path(local)

    def check(self, version: Version) -> None:
        """Load a version from the registry, and hold its weights and vocabulary against the digests in its tags.

        Raises RegistryError or CheckpointError where it cannot be loaded, or is not what was registered.
        """
        from unroll.models.saved import check_contents

        with self.model_folder(version) as folder:
            check_contents(folder, version.tags.get(WEIGHTS_TAG), version.tags.get(VOCABULARY_TAG))

    def _make_model(self, name: str) -> None:
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _aliases(self, name: str) -> dict[str, str]:
        """Alias to version number. Only the registry's own word that the model does not exist counts as none."""
        try:
            return dict(self._client.get_registered_model(name).aliases)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise


def _says_missing(error: RegistryError) -> bool:
    cause = error.__cause__
    return isinstance(cause, MlflowException) and cause.error_code == "RESOURCE_DOES_NOT_EXIST"


def signature_and_example(config: AnyConfig) -> dict[str, object]:
    """The signature and input example of a project's registered model; sampling settings are parameters."""
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    from unroll.generation import SamplingSettings

    # one column without a name: with a name, MLflow would refuse a plain list of texts
    texts = Schema([ColSpec(DataType.string)])
    if not isinstance(config, LanguageModelConfig):
        # the classes' columns follow the corpus, so the outputs stay open
        signature = ModelSignature(inputs=texts)
        return {"signature": signature, "input_example": pd.DataFrame({"text": ["A good film."]})}
    defaults = SamplingSettings()
    params = [
        ParamSpec("length", DataType.long, defaults.length),
        ParamSpec("temperature", DataType.double, defaults.temperature),
        ParamSpec("top_k", DataType.long, defaults.top_k),
        ParamSpec("top_p", DataType.double, defaults.top_p),
        ParamSpec("min_p", DataType.double, defaults.min_p),
        ParamSpec("seed", DataType.long, defaults.seed),
        ParamSpec("stop", DataType.string, [""], shape=(-1,)),
    ]
    signature = ModelSignature(
        inputs=texts,
        outputs=Schema([ColSpec(DataType.string, "text")]),
        params=ParamSchema(params),
    )
    example = (pd.DataFrame({"prompt": [config.evaluation.sample_prompt]}), {"length": 20, "temperature": 0.8})
    return {"signature": signature, "input_example": example}


def _version(version: ModelVersion, aliases: Mapping[str, str]) -> Version:
    number = str(version.version)
    held = tuple(sorted(alias for alias, target in aliases.items() if str(target) == number))
    created = float(version.creation_timestamp or 0) / 1000
    return Version(version.name, number, str(version.run_id), held, dict(version.tags or {}), created)
