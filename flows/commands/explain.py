"""``unroll explain``: a section of the chapter, run, printed and drawn."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flows.embedded import Workplace, prepare_environment, workplace
from unroll.errors import ConfigError
from unroll.files import existing_parent, writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger("unroll.explain")


def explain_section(section: str, folder: Path | None) -> None:
    """Print a section's table on stdout and write its figures, to ``folder`` or below the working folder.

    Raises ConfigError where the folder cannot be one, StoreError where a figure cannot be written, RegistryError where
    MLflow (for `remedies`) cannot be reached.
    """
    if folder is not None:
        _check_folder(folder)
    logger.info("explain %s: loading PyTorch", section)
    started = time.perf_counter()
    place = workplace()
    prepare_environment(place)
    # the training loop's own lines would bury the section's
    logging.getLogger("unroll.training").setLevel(logging.ERROR)
    if section == "remedies":
        lines, figures = _compare_remedies(place)
    else:
        import torch

        from unroll.chapter.sections import SECTIONS

        torch.set_num_threads(1)  # networks this small gain nothing from more, and the numbers would hang on how many
        explanation = SECTIONS[section]()
        lines, figures = list(explanation.lines), {section: explanation.figure}
    print("\n".join(lines), end="\n\n")
    for path in _save(figures, folder or place.root / "explain"):
        print(f"Figure: {path}")
    logger.info("done in %.1f s", time.perf_counter() - started)


def _check_folder(folder: Path) -> None:
    """Before anything is run: half an hour later would be late to learn that its figures have no place."""
    nearest = existing_parent(folder)
    if not nearest.is_dir():
        raise ConfigError(f"--figures {folder}: {nearest} is a file; expected a folder to write figures into.")
    for path in folder.glob("*.png"):
        if path.is_dir():
            raise ConfigError(f"--figures {folder}: {path} is a folder; expected a figure's file in its place.")


def _compare_remedies(place: Workplace) -> tuple[list[str], Mapping[str, Figure]]:
    from flows.commands.early_checks import check_servers
    from tasks.remedies import track_comparison
    from unroll.chapter.comparison import all_trials, draw_comparison, run_trials, tabulate
    from unroll.store import Store

    check_servers("MLFLOW_TRACKING_URI")
    trials = all_trials()
    logger.info("%d trials; about half an hour on two cores, and what is done is kept", len(trials))
    run_id, outcomes = track_comparison(trials, run_trials(trials, Store(place.store)), draw_comparison)
    return [*tabulate(outcomes), "", f"MLflow run {run_id}; its children hold the curves."], draw_comparison(outcomes)


def _save(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    from unroll.evaluation.plots import save

    paths = []
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        with writing(path):
            folder.mkdir(parents=True, exist_ok=True)
            save(figure, path)
        paths.append(path)
    return paths
