"""Our lines are heard, once each, in the runs of every deployment and on the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.command import Command

ROOT = Path(__file__).resolve().parents[3]
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]

AS_A_WORKER_DOES = """
import logging, sys, threading
from prefect.flows import load_flow_from_entrypoint
from prefect.logging.handlers import set_api_log_sink
load_flow_from_entrypoint(sys.argv[1])
sent = []
set_api_log_sink(sent.append)
import warnings
warnings.simplefilter("error")
def say():
    logging.getLogger("unroll.here").info("said")
    logging.getLogger("not.ours").info("said")
thread = threading.Thread(target=say)
thread.start()
thread.join()
say()
flow_run = {"flow_run_id": "12345678-1234-5678-1234-567812345678"}
logging.getLogger("unroll.here").info("said in a run", extra=flow_run)
logging.getLogger("unroll.here").debug("not said", extra=flow_run)
assert [line["message"] for line in sent] == ["said in a run"], sent
"""


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=[each["name"] for each in DEPLOYMENTS])
def test_lines_of_deployed_runs_are_heard_once_and_those_outside_of_runs_harm_nobody(
    command: Command, deployment: dict[str, object]
) -> None:
    job = deployment["work_pool"]["job_variables"]["env"]  # type: ignore[index]
    done = subprocess.run(
        [sys.executable, "-c", AS_A_WORKER_DOES, str(deployment["entrypoint"])],
        cwd=ROOT,
        env=command.environment() | {"PREFECT_HOME": str(command.folder)} | job,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    heard = done.stderr.splitlines()
    assert sum(line.endswith("- said") for line in heard) == 2
    assert sum("said in a run" in line for line in heard) == 1
    assert len(heard) == 3


def test_setting_up_logs_keeps_prefects_handler_and_makes_ours_anew(command: Command) -> None:
    script = """
import logging
from flows.embedded import prepare_environment, workplace
from flows.logs import set_up_logs
prepare_environment(workplace())
set_up_logs(logging.INFO)
from prefect import flow
set_up_logs(logging.INFO)
print([type(handler).__name__ for handler in logging.getLogger("unroll").handlers])
"""
    done = command.python(script)
    assert done.stdout.strip() == "['APILogHandler', 'StreamHandler']", done.stderr
