"""One stage in a process of its own: ``python -m benchmarks.stage_process STAGE FOLDER SETTING…``.

Reads and writes FOLDER/download, encode, train; the settings are overrides of the language model's preset `sample`.
Prints what the stage took as JSON: seconds, and the peak of memory in MiB.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.peak import PeakMemory


def run_stage(stage: str, folder: Path, settings: Sequence[str]) -> dict[str, Any]:
    """Run a stage in a child. Raises CalledProcessError where it fails; its log goes to stderr only then."""
    command = [sys.executable, "-m", "benchmarks.stage_process", stage, str(folder), *settings]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode != 0:
        print(child.stderr, file=sys.stderr)
    child.check_returncode()
    measured: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return measured


def main() -> int:
    """Run the stage that the command line names."""
    stage, folder, *settings = sys.argv[1:]
    started = perf_counter()
    with PeakMemory() as peak:
        _run(stage, Path(folder), settings)
    seconds = perf_counter() - started
    print(json.dumps({"seconds": seconds, "resident_mib": peak.resident, "anonymous_mib": peak.anonymous}))
    return 0


def _run(stage: str, folder: Path, settings: list[str]) -> None:
    from unroll import stages
    from unroll.presets import load_config
    from unroll.store import Artifact
    from unroll.training.metrics import SilentLogger

    config = load_config("language_model", "sample", settings)
    corpus, encoded = (Artifact(name, "", str(folder / name), "") for name in ("download", "encode"))
    target = folder / stage
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    if stage == "download":
        stages.download_key(config)  # takes the digest of the source, as a run does
        stages.download(config, target)
    elif stage == "encode":
        stages.encode(config, corpus, target)
    else:
        work = folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        stages.train(config, encoded, work, target, SilentLogger())


if __name__ == "__main__":
    sys.exit(main())
