"""An alert through a command: mail, a pager, a line in a log. Started by the automations of `unroll deploy`."""

from __future__ import annotations

import logging
import os
import subprocess

from prefect import flow

from unroll.errors import UnrollError

logger = logging.getLogger("unroll.alert")

COMMAND_VARIABLE = "UNROLL_ALERT_COMMAND"
SECONDS = 60.0


@flow(name="alert", flow_run_name="{subject}", log_prints=False)
def alert(subject: str = "Unroll: a test", body: str = "This is what an alert looks like.") -> None:
    """Run the shell command in UNROLL_ALERT_COMMAND; ``mail -s "$UNROLL_ALERT_SUBJECT" team@…`` is one.

    Raises UnrollError where there is none, or it fails.

    Args:
        subject: One line; the command finds it in UNROLL_ALERT_SUBJECT.
        body: What happened and where to look; the command reads it from its standard input.
    """
    command = os.environ.get(COMMAND_VARIABLE, "").strip()
    if not command:
        raise UnrollError(f"{COMMAND_VARIABLE} is not set where the worker runs; set it there, and start it again.")
    environment = {**os.environ, "UNROLL_ALERT_SUBJECT": subject}
    try:
        done = subprocess.run(
            command, shell=True, input=body, env=environment, capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise UnrollError(f"The command in {COMMAND_VARIABLE} did not end within {SECONDS:g} s.") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-500:]
        raise UnrollError(
            f"The command in {COMMAND_VARIABLE} ended with {done.returncode}: {said or 'it said nothing'}"
        )
    logger.info("alerted: %s", subject)
