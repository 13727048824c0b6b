"""The ledger of decisions on a registered model, kept in the registry itself, and what is atomic about it.

MLflow has no compare-and-set. Tags and aliases are upserts: the last writer wins, and the first is not told. What it
does have is one call that writes a numbered record whole or not at all: `create_model_version` inserts the version, its
number and its tags in one transaction, and the primary key (name, version) lets no two callers have one number. So:

- The ledger of ``unroll-sentiment`` is the registered model ``unroll-sentiment.ledger``. Its versions are the entries,
  numbered by the server without holes; each points at the version that it decides on, and its tags hold the rest.
- **Appending an entry is the decision.** An entry names the last effective move that its author had seen; if another
  move has come between, it is overtaken, and whoever reads the ledger sees that (`unroll.evaluation.decisions.stand`).
  The author reads it back and is told. Of any number of authors at once exactly one wins.
- **The alias ``champion`` is a projection** of the ledger, for everybody who loads ``models:/…@champion``. `settle`
  makes it say what the ledger says, looks again whether the ledger has moved on meanwhile, and only then notes in a tag
  of the model how far the alias has followed. Anybody may do it, any number of times.

There is no lock, hence no owner who may die holding it, and no lease to wait for. Killed before the append, nothing was
decided; killed after it, the decision stands and the next command moves the alias. A request that was sent twice
because its answer was lost is known by its id, and counts once.

An alias that has followed the ledger and yet names another version was moved by hand in MLflow (or by a winner who was
overtaken and killed within the same instant), and an entry that is not there was deleted by hand. Neither is guessed
at: nothing is promoted by the gate until a person says which version is meant, with ``unroll models promote``, which
enters it.

Limits (MLflow 3.17): 250 characters for a tag's key; 100,000 for its value, but 5,000 in older servers and hosted ones,
so longer values are cut into several tags. An entry is written once; MLflow lets people delete it, and the copy in the
store (`tasks.ledger_copy`) tells.
"""

from __future__ import annotations

import getpass
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, cast

from tasks.tracked_run import LONGEST_TAG, reaching_mlflow
from unroll.errors import RegistryError
from unroll.evaluation.decisions import VERDICTS, Entry, Verdict, stand

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

logger = logging.getLogger("unroll.ledger")

SUFFIX = ".ledger"
LEDGER_TAG = "unroll.ledger_of"
FOLLOWED_TAG = "unroll.ledger_followed"
"""On the model: number of the move that its alias has followed."""
PREFIX = "unroll.entry."
SECONDS_OF_CONTENTION = 30.0
"""How long an append is tried again while others write."""
PAGE = 1_000


class Ledger:
    """The decisions on one registered model. Every method raises RegistryError where MLflow does not do its part."""

    def __init__(self, client: MlflowClient, name: str) -> None:
        """Nothing is asked of the registry yet."""
        self.name = name
        self._client = client

    def entries(self) -> list[Entry]:
        """Every entry, oldest first; none where nothing was ever decided."""
        with reaching_mlflow(self._client):
            return sorted(map(_entry, self._versions()), key=lambda entry: entry.number)

    def append(self, entry: Entry) -> Entry:
        """Append an entry for good; returns it with its number. Whether it is effective is for `stand` to say.

        Raises RegistryError where its version is not in the registry.
        """
        from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

        retrying = Retrying(
            retry=retry_if_exception(_is_contention),
            wait=wait_random_exponential(multiplier=0.05, max=2),
            stop=stop_after_delay(SECONDS_OF_CONTENTION),
            reraise=True,
        )
        with reaching_mlflow(self._client):
            self._make()
            retrying(self._append_once, entry)
        return next(each for each in self.entries() if each.id == entry.id)

    def followed(self, alias: str) -> tuple[int, str | None]:
        """Number of the move that the alias has followed, 0 where it never did; and the version that it names."""
        with reaching_mlflow(self._client):
            model = self._client.get_registered_model(self.name)
        number = model.aliases.get(alias)
        return int(model.tags.get(FOLLOWED_TAG, 0)), None if number is None else str(number)

    def follow(self, alias: str) -> bool:
        """Let an alias that lags behind the ledger catch up; whether it did.

        Nothing is raised: whoever only reads may not be let write.
        """
        try:
            if self.followed(alias)[0] >= stand(self.entries()).move:
                return False
            logger.info("the alias %s of %s catches up with its ledger", alias, self.name)
            self.settle(alias)
        except RegistryError as error:
            logger.warning("the alias %s of %s may lag behind its ledger: %s", alias, self.name, error)
            return False
        return True

    def settle(self, alias: str) -> None:
        """Make the alias name the ledger's champion, and note that it does."""
        while (standing := stand(self.entries())).champion is not None:
            with reaching_mlflow(self._client):
                known = self._client.get_registered_model(self.name).aliases.get(alias)
                if str(known) != standing.champion:
                    self._client.set_registered_model_alias(self.name, alias, standing.champion)
            # another may have won, and moved the alias, between our reading and our moving it back
            if stand(self.entries()).move == standing.move:
                with reaching_mlflow(self._client):
                    self._client.set_registered_model_tag(self.name, FOLLOWED_TAG, str(standing.move))
                return

    def _append_once(self, entry: Entry) -> None:
        # the id tells whether an attempt that seemed to fail has arrived after all
        if any(version.tags.get(f"{PREFIX}id") == entry.id for version in self._versions()):
            return
        self._client.create_model_version(
            self.name + SUFFIX,
            f"models:/{self.name}/{entry.version}",
            tags=_tags(entry),
            description=f"**{entry.verdict}** version {entry.version} of {self.name}: {entry.reason}"[:LONGEST_TAG],
            await_creation_for=0,
        )

    def _make(self) -> None:
        from mlflow.exceptions import MlflowException

        ledger = self.name + SUFFIX
        try:
            made = self._client.create_registered_model(
                ledger,
                tags={LEDGER_TAG: self.name},
                description=f"Decisions on {self.name}, a version each: `unroll models history {self.name}`. "
                "Not a model; please change and delete nothing here.",
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            made = self._client.get_registered_model(ledger)
        if made.tags.get(LEDGER_TAG) != self.name:
            raise RegistryError(
                f"The registered model {ledger} is no ledger of {self.name}, expected the tag {LEDGER_TAG}. Rename "
                f"it, or register the models of this project under another name (registry.name)."
            )

    def _versions(self) -> Iterator[ModelVersion]:
        token = None
        while True:
            page = self._client.search_model_versions(
                f"name = '{self.name}{SUFFIX}'", max_results=PAGE, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return


def user_name() -> str:
    """Who runs this process, as the system calls him; "unknown" where it has no name for him."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def _is_contention(error: BaseException) -> bool:
    """Whether another writer was in the way, rather than the registry or the network broken."""
    from mlflow.exceptions import MlflowException

    words = ("Giving up after", "locked", "deadlock", "could not serialize")
    return isinstance(error, MlflowException) and any(word in str(error) for word in words)


def _tags(entry: Entry) -> dict[str, str]:
    tags: dict[str, str] = {}
    for name, value in asdict(entry).items():
        if name in ("number", "time") or value is None:
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
        pieces = [text[start : start + LONGEST_TAG] for start in range(0, len(text), LONGEST_TAG)] or [""]
        tags[PREFIX + name] = pieces[0]
        tags |= {f"{PREFIX}{name}.{index}": piece for index, piece in enumerate(pieces[1:], 1)}
    return tags


def _entry(version: ModelVersion) -> Entry:
    tags: Mapping[str, str] = version.tags or {}
    texts = {field.name: _whole(tags, PREFIX + field.name) for field in fields(Entry)}
    known: dict[str, Any] = {name: text for name, text in texts.items() if text is not None}
    try:
        known["based_on"] = int(known["based_on"])
        if "evidence" in known:
            known["evidence"] = json.loads(known["evidence"])
        if known["verdict"] not in VERDICTS:
            raise ValueError(f"the verdict is {known['verdict']!r}")
        known["verdict"] = cast(Verdict, known["verdict"])
        known.setdefault("champion", None)
        return Entry(**known, number=int(version.version), time=float(version.creation_timestamp or 0) / 1000)
    except (KeyError, TypeError, ValueError) as error:
        raise RegistryError(
            f"Entry {version.version} of the ledger {version.name} cannot be read ({error!r}): its tags were changed, "
            "or a later Unroll wrote it. Restore its tags (the store's copy in .unroll/store/ledger has them), or "
            "use that Unroll."
        ) from error


def _whole(tags: Mapping[str, str], key: str) -> str | None:
    if key not in tags:
        return None
    pieces = [tags[key]]
    while (piece := tags.get(f"{key}.{len(pieces)}")) is not None:
        pieces.append(piece)
    return "".join(pieces)
