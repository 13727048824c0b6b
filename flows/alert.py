"""An alert through a command: mail, a pager, a line in a log. Started by the automations of `unroll deploy`."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import tempfile

from prefect import flow

from flows.run_names import alert_name, on_one_line
from unroll.errors import UnrollError

logger = logging.getLogger("unroll.alert")

COMMAND_VARIABLE = "UNROLL_ALERT_COMMAND"
SECONDS = 60.0


@flow(name="alert", flow_run_name=alert_name, log_prints=False)
def alert(subject: str = "Unroll: a test", body: str = "This is what an alert looks like.") -> None:
    """Run the shell command in UNROLL_ALERT_COMMAND; ``mail -s "$UNROLL_ALERT_SUBJECT" team@…`` is one.

    Raises UnrollError where there is none, or it fails.

    Args:
        subject: What happened; the command finds it, as one line, in UNROLL_ALERT_SUBJECT.
        body: What happened and where to look; the command reads it from its standard input, as UTF-8.
    """
    command = os.environ.get(COMMAND_VARIABLE, "").strip()
    if not command:
        raise UnrollError(f"{COMMAND_VARIABLE} is not set where the worker runs; set it there, and start it again.")
    line = on_one_line(subject)
    code, said = _run(command, line, body)
    if code != 0:
        raise UnrollError(f"The command in {COMMAND_VARIABLE} ended with {code}: {said or 'it said nothing'}")
    logger.info("alerted: %s", line)


def _run(command: str, subject: str, body: str) -> tuple[int, str]:
    """How the command ended, and the end of what it said. Raises UnrollError if it takes more than SECONDS."""
    environment = {**os.environb, b"UNROLL_ALERT_SUBJECT": subject.encode()}
    with tempfile.TemporaryFile() as output:  # no pipe: what the command leaves running in the background may hold it
        process = subprocess.Popen(
            command,
            shell=True,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
        with process:
            try:
                process.communicate(body.encode(errors="replace"), timeout=SECONDS)
            except subprocess.TimeoutExpired as error:
                os.killpg(process.pid, signal.SIGKILL)  # the shell and what it waits for
                raise UnrollError(f"The command in {COMMAND_VARIABLE} did not end within {SECONDS:g} s.") from error
        output.seek(0)
        return process.returncode, output.read().decode(errors="replace").strip()[-500:]
