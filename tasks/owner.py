"""Whose process keeps an MLflow run going. A killed process leaves its run "RUNNING"; the next command tells."""

from __future__ import annotations

import hashlib
import os
import platform
import uuid
from collections.abc import Mapping
from pathlib import Path

from unroll.processes import is_start_of, start_of

PID_TAG = "unroll.owner_pid"
STARTED_TAG = "unroll.owner_started"
PLACE_TAG = "unroll.owner_place"


def owner_tags() -> dict[str, str]:
    """Tags that name this process for as long as it lives, and for nobody else."""
    return {PID_TAG: str(os.getpid()), STARTED_TAG: start_of(os.getpid()) or "", PLACE_TAG: _place()}


def is_dead(tags: Mapping[str, str], *, one_machine: bool) -> bool:
    """Whether the process that wrote these tags is known to be gone.

    A process on another machine or in another container cannot be seen from here and counts as alive; where
    ``one_machine`` alone writes the store, another boot means an earlier one.
    """
    found, here = tags.get(PLACE_TAG, ""), _place()
    if not found:
        return False
    if found != here:
        return one_machine and found.partition("/")[0] != here.partition("/")[0]
    try:
        return not is_start_of(tags[STARTED_TAG], int(tags[PID_TAG]))
    except (OSError, KeyError, ValueError):
        return False


def _place() -> str:
    """This boot of this machine and the container in it, as digests."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        container = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot, container = f"{platform.node()} {uuid.getnode()}", ""
    return "/".join(hashlib.sha256(part.encode()).hexdigest()[:12] for part in (boot, container))
