"""``unroll deploy``: the work pool, the deployments of prefect.yaml, and what the server does by itself."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flows.commands.early_checks import check_servers
from flows.embedded import prepare_environment, workplace
from unroll.errors import ConfigError, UnrollError

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

logger = logging.getLogger("unroll.deploy")

ROOT = Path(__file__).resolve().parents[2]
POOL = "unroll"
QUEUES = {"training": 1, "light": 4}
"""Runs at a time: a training takes every core there is; scoring, watching and alerts wait for none."""
WEBHOOK_VARIABLE = "UNROLL_WEBHOOK_URL"
WEBHOOK_BLOCK = "unroll-alerts"
SECONDS_TO_DEPLOY = 180.0


def deploy(timezone: str, stuck_after_hours: float) -> None:
    """Make the work pool, deployments and automations, or bring those that are there up to date; print what there is.

    Raises ConfigError where no Prefect server is named, or there is no such time zone; UnrollError where the server
    does not take it.
    """
    _check(timezone)
    prepare_environment(workplace())
    check_servers("PREFECT_API_URL")
    logger.info("deploying to %s", os.environ["PREFECT_API_URL"])
    import prefect.exceptions
    from httpx import HTTPError
    from prefect import get_client

    try:
        with get_client(sync_client=True) as client:
            _make_pool(client)
            _make_deployments(timezone)
            told = _make_automations(client)
            _set_stuck_after(client, stuck_after_hours)
            lines = list(_describe(client))
        _start_again_what_died()
    except (prefect.exceptions.PrefectException, HTTPError) as error:
        raise UnrollError(f"The Prefect server did not take it: {str(error).splitlines()[0]}") from error
    print("\n".join([*lines, told]))


def _check(timezone: str) -> None:
    if not os.environ.get("PREFECT_API_URL"):
        raise ConfigError(
            "PREFECT_API_URL is not set. Deployments live on a Prefect server that stays up: bring one up with make "
            "stack (or make up), or set the address of yours."
        )
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(f"--timezone {timezone}: no such time zone; expected one as Europe/Madrid.") from error


def _make_pool(client: SyncPrefectClient) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.client.schemas.objects import WorkQueue
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    try:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
    except ObjectAlreadyExists:
        client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))
    for name, limit in QUEUES.items():
        queue: WorkQueue
        try:
            queue = client.read_work_queue_by_name(name, work_pool_name=POOL)
            client.update_work_queue(queue.id, concurrency_limit=limit)
        except ObjectNotFound:
            client.create_work_queue(name, concurrency_limit=limit, work_pool_name=POOL)


def _make_deployments(timezone: str) -> None:
    """By Prefect's own command, from prefect.yaml: it makes the typed forms and the triggers too."""
    logger.info("making the deployments of prefect.yaml: some seconds")
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "prefect.yaml"]
    environment = {**os.environ, "UNROLL_ROOT": os.environ.get("UNROLL_ROOT") or str(ROOT), "UNROLL_TIMEZONE": timezone}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS_TO_DEPLOY
        )
    except subprocess.TimeoutExpired as error:
        raise UnrollError(f"prefect deploy did not end within {SECONDS_TO_DEPLOY:g} s; is the server busy?") from error
    if done.returncode != 0:
        raise UnrollError(f"prefect deploy failed:\n{(done.stdout + done.stderr).strip()[-2000:]}")
    logger.debug("%s", done.stdout)


def _make_automations(client: SyncPrefectClient) -> str:
    """Bring ours up to date and drop those of ours that are no more; returns whom they tell, in words.

    What has not changed is not written: the server would forget which runs its triggers are waiting for.
    """
    from flows.alert import COMMAND_VARIABLE
    from flows.automations import PREFIX, make_automations

    webhook = _webhook_block()
    command = client.read_deployment_by_name("alert/command").id if os.environ.get(COMMAND_VARIABLE) else None
    wanted = {automation.name: automation for automation in make_automations(webhook, command)}
    # the triggers of deployments are automations too, under other names; those are Prefect's to make
    found = {each.name: each for each in client.read_automations() if each.name.startswith(PREFIX)}
    for name, automation in wanted.items():
        if name not in found:
            client.create_automation(automation)
        elif _plain(found[name]) != _plain(automation):
            client.update_automation(found[name].id, automation)
    for name in found.keys() - wanted.keys():
        client.delete_automation(found[name].id)
    ways = [name for name, way in (("the webhook", webhook), (f"the command in {COMMAND_VARIABLE}", command)) if way]
    if ways:
        return f"Alerts go to {' and '.join(ways)}."
    return (
        f"Alerts go nowhere yet: set {WEBHOOK_VARIABLE} (Slack, Teams and the like) or {COMMAND_VARIABLE}, and deploy "
        "again. Prefect's page lists them under Event Feed."
    )


def _plain(automation: AutomationCore) -> dict[str, Any]:
    """What an automation is, without the ids that the server gives it and its parts."""

    def without_ids(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: without_ids(each) for name, each in value.items() if name not in ("id", "owner_resource")}
        return [without_ids(each) for each in value] if isinstance(value, list) else value

    from prefect.events.schemas.automations import AutomationCore

    core = AutomationCore.model_validate(automation.model_dump(include=set(AutomationCore.model_fields)))
    plain: dict[str, Any] = without_ids(core.model_dump(mode="json"))
    return plain


def _set_stuck_after(client: SyncPrefectClient, hours: float) -> None:
    """Where `tasks.run_alerts` reads it."""
    from prefect.variables import Variable

    from tasks.run_alerts import STUCK_VARIABLE

    if (found := client.read_variable_by_name(STUCK_VARIABLE)) is None or found.value != hours:
        Variable.set(STUCK_VARIABLE, hours, overwrite=True)


def _start_again_what_died() -> None:
    """Look after the runs once; the worker does so all the time, where it is ours."""
    from tasks.reconcile import Reconciler

    for words in Reconciler(POOL, workplace().runs).look():
        logger.info("%s", words)


def _webhook_block() -> UUID | None:
    """The block with the address in UNROLL_WEBHOOK_URL, made or brought up to date; None where it is not set."""
    from prefect.blocks.webhook import Webhook
    from pydantic import SecretStr

    url = os.environ.get(WEBHOOK_VARIABLE, "").strip()
    if not url:
        return None
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{WEBHOOK_VARIABLE} is no web address; expected one that begins with https://")
    found: Any = Webhook(method="POST", url=SecretStr(url)).save(WEBHOOK_BLOCK, overwrite=True)
    block_id: UUID = found
    return block_id


def _describe(client: SyncPrefectClient) -> Iterator[str]:
    from prefect.client.schemas.schedules import CronSchedule

    yield f"{'deployment':32}{'when':28}runs in"
    for deployment in client.read_deployments():
        if deployment.work_pool_name != POOL:
            continue
        flow = client.read_flow(deployment.flow_id)
        schedules = [each.schedule for each in deployment.schedules if each.active]
        crons = [f"{each.cron} {each.timezone}" for each in schedules if isinstance(each, CronSchedule)]
        yield f"{f'{flow.name}/{deployment.name}':32}{', '.join(crons) or 'on demand':28}{deployment.work_queue_name}"
