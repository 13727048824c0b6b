"""``unroll retrain``: the retrain flow, and the report of it whatever comes."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.commands.early_checks import check_output, check_servers, check_sources
from flows.embedded import prefect_server, prepare_environment, workplace
from unroll.config import ProjectName
from unroll.errors import StoreError
from unroll.files import write_json, writing
from unroll.presets import load_config

if TYPE_CHECKING:
    from unroll.retraining import Account

logger = logging.getLogger("unroll.retrain")

HELD_BACK = 3
"""Exit code, where it was asked for."""
WIDTH = 100
FLOW_RUN = "Prefect flow run"
NOT_IN_SUMMARY = ("curves", "plots")


@dataclass(frozen=True)
class Request:
    """What is to be retrained, and why."""

    project: ProjectName
    preset: str
    settings: Sequence[str]
    reason: str
    forced: bool


def retrain_project(request: Request, report: Path | None, summary: Path | None, fail_on_hold: bool) -> int:
    """Run the flow, write the report and the summary, print what came of it; returns the exit code.

    The report is written for a failure too, and then the error is raised.
    """
    logger.info("unroll: retraining %s, config %s", request.project.replace("_", " "), request.preset)
    for path in (report, summary):
        if path is not None:
            check_output(path)
    with _reporting_failure(request, report, summary):
        account = _run(request)
    _write(account, report, summary)
    _print(account, report)
    return HELD_BACK if fail_on_hold and account.is_held_back else 0


def _run(request: Request) -> Account:
    config = load_config(request.project, request.preset, request.settings)
    check_sources(config)
    check_servers("PREFECT_API_URL", "MLFLOW_TRACKING_URI")
    place = workplace()
    prepare_environment(place)
    server = prefect_server(place)
    server.start()
    logger.info("loading PyTorch, Prefect and MLflow")
    from prefect.utilities.urls import url_for

    from flows.embedded import drain_history
    from flows.logs import quiet_libraries
    from flows.retrain import retrain
    from unroll.retraining import Account, RetrainingFailed

    quiet_libraries()
    with server:
        state = retrain(
            request.project, request.preset, list(request.settings), request.reason, request.forced, return_state=True
        )
        flow_run_id = state.state_details.flow_run_id
        if flow_run_id is not None:
            drain_history([flow_run_id])
        # the private server's pages end with the command
        page = None if server.is_private else url_for("flow-run", obj_id=flow_run_id)
        try:
            plain: Any = state.result()
            account = Account.from_plain(plain)
        except RetrainingFailed as failure:
            failure.account.links |= {FLOW_RUN: page} if page else {}
            raise
        account.links |= {FLOW_RUN: page} if page else {}
        return account


@contextmanager
def _reporting_failure(request: Request, report: Path | None, summary: Path | None) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        from unroll.retraining import Account, RetrainingFailed

        if isinstance(error, RetrainingFailed):
            account = error.account
        else:
            settings = list(request.settings)
            account = Account(request.project, request.preset, settings, request.reason, request.forced)
            account.fail(error)
        with suppress(StoreError):  # the error that ended the retraining matters more
            _write(account, report, summary)
        raise


def _write(account: Account, report: Path | None, summary: Path | None) -> None:
    from unroll.evaluation.retrain_report import render_html, render_markdown

    if report is not None:
        with writing(report):
            report.write_text(render_markdown(account), encoding="utf-8")
            report.with_suffix(".html").write_text(render_html(account), encoding="utf-8")
    if summary is not None:
        plain = {name: value for name, value in account.plain().items() if name not in NOT_IN_SUMMARY}
        with writing(summary):
            write_json(summary, plain | {"held_back": account.is_held_back})


def _print(account: Account, report: Path | None) -> None:
    from unroll.retraining import in_words

    model = (account.summary or {}).get("model")
    what = f"version {model['version']} of {model['name']} " if model else ""
    lines = [f"{account.project.replace('_', ' ')}: {what}{account.decision}"]
    if account.changes is not None:
        lines.append(f"changed since the champion: {in_words(account.changes)}")
    lines.append(account.reason)
    if report is not None:
        lines.append(f"report: {report}, with its plots in {report.with_suffix('.html').name}")
    print("\n".join(textwrap.fill(line, WIDTH, break_long_words=False, break_on_hyphens=False) for line in lines))
