"""The retrain flow: by hand, on a schedule, on an event, or from continuous integration."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.embedded import workplace
from flows.run_names import retraining_name
from flows.training import Trained, train_and_judge
from tasks.admission import admission
from tasks.retrain import compare_with_champion, conclude, report_retraining, was_judged_against_another
from unroll.config import AnyConfig, ProjectName
from unroll.errors import UnrollError
from unroll.presets import load_config
from unroll.retraining import Account, RetrainingFailed

logger = logging.getLogger("unroll.retrain")


@flow(name="retrain", flow_run_name=retraining_name, log_prints=False)
def retrain(
    project: ProjectName,
    preset: str = "sample",
    settings: list[str] = [],  # noqa: B006 - the default of the form; never changed
    reason: str = "asked for",
    forced: bool = False,
) -> dict[str, Any] | State[Any]:
    """Train, judge and register anew, where data, code or settings are no longer what the champion was made from.

    Returns `Account.plain`. Where nothing changed the flow run ends as Skipped; it fails as RetrainingFailed, with the
    account as far as it goes.

    Args:
        project: Which project.
        preset: Name or path of a preset.
        settings: section.key=value each, over the preset's.
        reason: Why, for the run's name and its report.
        forced: Train even where nothing has changed.
    """
    with admission(workplace().runs, may_overlap=True) as refusal:
        return refusal or retrain_where_called_for(Account(project, preset, list(settings), reason, forced))


def retrain_where_called_for(account: Account) -> dict[str, Any] | State[Any]:
    """As `retrain`, which begins the account."""
    with accounting_for_failure(account):
        config = load_config(account.project, account.preset, account.settings)
        place = (mlflow.get_tracking_uri(), str(workplace().store))
        account.champion, account.changes = compare_with_champion(config, *place)
        if not account.calls_for_training:
            return skip(account)
        trained = train_against_champion(config, account)
        account = conclude(account, trained.context, trained.stages, trained.summary)
        report_retraining(account, trained.context)
    logger.info("retrain %s: %s; %s", account.project, account.decision, account.reason)
    return account.plain()


def train_against_champion(config: AnyConfig, account: Account) -> Trained:
    """The stages; and judged once more where what they found decided is about a champion of the past."""
    preset = Path(account.preset).stem
    trained = train_and_judge(config, preset, None)
    if was_judged_against_another(account, trained.context, trained.stages):
        logger.info("judged before another champion; the gate looks again")
        trained = train_and_judge(config, preset, "register")
    return trained


def skip(account: Account) -> State[Any]:
    """End without training, in a state of that name: the champion is what would come of it."""
    champion = account.champion
    assert champion is not None
    account.decision = "skipped"
    account.reason = (
        f"Data, code and settings are those that version {champion.version} of {champion.name}, the champion, was made "
        "from."
    )
    logger.info("retrain %s: skipped; %s", account.project, account.reason)
    report_retraining(account, None)
    return Completed(name="Skipped", message=account.reason, data=account.plain())


@contextmanager
def accounting_for_failure(account: Account) -> Iterator[None]:
    """Write the report of a retraining that fails too, and let the caller have its account."""
    try:
        yield
    except Exception as error:
        account.fail(error)
        if not (isinstance(error, UnrollError) and error.stopped_by):
            _report_failure(account)
        if isinstance(error, UnrollError):
            raise RetrainingFailed(account, error) from error
        raise


def _report_failure(account: Account) -> None:
    try:
        report_retraining(account, None)
    except Exception as trouble:
        logger.warning("the report of the failure could not be kept in Prefect: %s", trouble)
