"""The command line: one command, ``unroll``, whose heavy imports wait until they are needed.

Results go to stdout, progress and logs to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but the gate held
the model back (only where asked for), 128 + n stopped by signal n with the state saved. Tracebacks only with --debug,
which may stand anywhere.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from unroll.errors import UnrollError

app = typer.Typer(
    help="Recurrent networks as pipelines that run by themselves.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
)
models_app = typer.Typer(help="The registered models and the decisions on them.", no_args_is_help=True)
app.add_typer(models_app, name="models")

Project = Literal["sentiment", "language-model"]
"""How a project is spelled on the command line; in settings it is ``language_model``."""

Section = Literal["forward", "bptt", "gradients", "clipping", "truncation", "tasks", "remedies"]

_debug = False


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logs, of any command.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings only.")] = False,
) -> None:
    """Recurrent networks as pipelines that run by themselves."""
    global _debug
    _debug = debug
    from flows.logs import set_up_logs

    set_up_logs(logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO)


@app.command()
def run(
    project: Annotated[Literal["sentiment", "language-model", "all"], typer.Argument(help="What to train.")],
    config: Annotated[str, typer.Option("--config", "-c", help="Preset name or YAML file.")] = "sample",
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="section.key=value; repeatable.", metavar="KEY=VALUE")
    ] = None,
    from_stage: Annotated[
        str | None, typer.Option("--from", help="Run this stage and those after it anew.", metavar="STAGE")
    ] = None,
    summary: Annotated[
        Path | None, typer.Option(help="Write the run's summary as JSON; of 'all', a list of both.")
    ] = None,
) -> None:
    """Download, validate, encode, train, evaluate, register: the whole flow."""
    from flows.commands.run import run_projects

    projects = ["sentiment", "language_model"] if project == "all" else [project.replace("-", "_")]
    run_projects(projects, config, settings or [], from_stage, summary)


@app.command()
def retrain(
    project: Annotated[Project, typer.Argument(help="What to retrain.")],
    config: Annotated[str, typer.Option("--config", "-c", help="Preset name or YAML file.")] = "sample",
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="section.key=value; repeatable.", metavar="KEY=VALUE")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a report, as Markdown; one with plots, as HTML, beside it.", metavar="FILE"),
    ] = None,
    summary: Annotated[Path | None, typer.Option(help="Write what came of it as JSON.", metavar="FILE")] = None,
    fail_on_hold: Annotated[
        bool, typer.Option("--fail-on-hold", help="Exit with 3 where the gate held or rejected the new model.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Go through the stages even if nothing changed.")] = False,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; it stands in the report.")] = "asked for",
) -> None:
    """Train again where data, code or settings are not the champion's, and let the gate decide."""
    from flows.commands.retrain import Request, retrain_project

    name: Literal["sentiment", "language_model"] = "sentiment" if project == "sentiment" else "language_model"
    request = Request(name, config, settings or [], reason, force)
    raise typer.Exit(retrain_project(request, report, summary, fail_on_hold))


@app.command()
def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to classify.")] = None,
    input_path: Annotated[
        Path | None, typer.Option("--input", "-i", help="CSV, JSON lines or Parquet with a text column.")
    ] = None,
    output_path: Annotated[Path | None, typer.Option("--output", "-o", help="Same kinds; by its ending.")] = None,
    text_column: Annotated[str, typer.Option(help="Column that holds the text.")] = "text",
    model: Annotated[
        str | None, typer.Option(help="Version number, alias, or name/version; the champion by default.")
    ] = None,
    precision: Annotated[
        Literal["float32", "bfloat16", "auto"],
        typer.Option(help="auto: bfloat16 where it was measured to be faster, on a processor that computes in it."),
    ] = "float32",
) -> None:
    """Labels and probabilities by the champion."""
    from flows.commands.use import predict_file, predict_texts

    if (input_path is None) == (not texts):
        raise typer.BadParameter("give either texts or --input FILE.")
    if input_path is not None and output_path is None:
        raise typer.BadParameter("--input needs --output FILE.")
    if input_path is not None and output_path is not None:
        predict_file(input_path, output_path, text_column, model, precision)
    else:
        predict_texts(texts or [], model, precision)


@app.command()
def score(
    input_path: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", help="CSV, JSON lines or Parquet with a text column; or a text, ending in .txt."
        ),
    ],
    output_path: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder for the Parquet parts.")],
    text_column: Annotated[str, typer.Option(help="Column that holds the text.")] = "text",
    model: Annotated[
        str | None, typer.Option(help="Version number, alias, or name/version; the champion by default.")
    ] = None,
    precision: Annotated[Literal["float32", "bfloat16", "auto"], typer.Option(help="As that of predict.")] = "float32",
    part_rows: Annotated[
        int | None, typer.Option(min=1, help="Rows of a part; 10,000, or 2,000 passages of a text.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what another job left in OUTPUT.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="drift.key=value; repeatable.", metavar="KEY=VALUE")
    ] = None,
) -> None:
    """Score a file of any size, in parts; stopped at any instant, the same command goes on.

    Reviews get labels and probabilities, the passages of a text their bits per character. At the end it says whether
    the input is still like what the model was validated on (drift).
    """
    from flows.commands.score import score_in_parts

    options: dict[str, Any] = {
        "text_column": text_column,
        "precision": precision,
        "part_rows": part_rows,
        "overwrite": overwrite,
        "settings": settings or [],
    }
    score_in_parts(input_path, output_path, model, options)


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="Text to go on from.")],
    length: Annotated[int, typer.Option(help="Characters to make.")] = 500,
    temperature: Annotated[float, typer.Option(help="Below 1 more predictable, above 1 more random.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Keep the k likeliest characters; 0 keeps all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Keep the likeliest up to this probability.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Drop those below this share of the likeliest.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Same seed, same text.")] = 1,
    stop: Annotated[list[str] | None, typer.Option(help="End after this string; repeatable.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Texts to make.")] = 1,
    model: Annotated[
        str | None, typer.Option(help="Version number, alias, or name/version; the champion by default.")
    ] = None,
    precision: Annotated[
        Literal["float32", "bfloat16", "auto"],
        typer.Option(help="auto: bfloat16 for several texts where it was measured to be faster; other roundings."),
    ] = "float32",
) -> None:
    """Text by the champion, as it is made."""
    from flows.commands.use import generate_texts

    options: dict[str, Any] = {
        "length": length,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "seed": seed,
        "stop": tuple(stop or ()),
    }
    generate_texts(prompt, count, model, options, precision)


@models_app.command("list")
def list_models(
    name: Annotated[str | None, typer.Argument(help="Registered model; all by default.")] = None,
) -> None:
    """Every version with its decision."""
    from flows.commands.models import list_versions

    list_versions(name)


@models_app.command("show")
def show_model(
    version: Annotated[str, typer.Argument(help="name, name/version or name@alias; the champion by default.")],
) -> None:
    """One version's model card: what it is for, data, metrics, slices, limits, decision and cost."""
    from flows.commands.models import show_version

    show_version(version)


@models_app.command("history")
def models_history(
    name: Annotated[str | None, typer.Argument(help="Registered model; not needed where there is but one.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Newest entries only.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line, with the evidence.")] = False,
) -> None:
    """Every decision on a model, newest first: who asked, what was decided and why."""
    from flows.commands.models import show_history

    show_history(name, limit, as_json)


@models_app.command("promote")
def promote_model(
    version: Annotated[str, typer.Argument(help="name/version or name@challenger.")],
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; it is kept in the history.")],
) -> None:
    """Make a version champion by your own decision, past the gate."""
    from flows.commands.models import promote_version

    promote_version(version, reason)


@models_app.command("rollback")
def roll_back_model(
    name: Annotated[str | None, typer.Argument(help="Registered model; not needed where there is but one.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="An earlier champion's version number.")] = None,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; it is kept in the history.")] = "rolled back",
) -> None:
    """Make the champion before this one champion again; twice in a row goes back two."""
    from flows.commands.models import roll_back

    roll_back(name, to, reason)


@app.command()
def explain(
    section: Annotated[Section, typer.Argument(help="Which section of the chapter.")],
    figures: Annotated[Path | None, typer.Option(help="Folder for the figures; .unroll/explain by default.")] = None,
) -> None:
    """A section of the chapter, run: a table, and a figure drawn from what was measured.

    Each takes seconds, but for `remedies`, which trains 48 networks in half an hour and records them in MLflow.
    """
    from flows.commands.explain import explain_section

    explain_section(section, figures)


@app.command()
def ui(
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the pages in a browser.")] = True,
    mlflow_port: Annotated[int, typer.Option(help="0 takes a free port.")] = 5000,
    prefect_port: Annotated[int, typer.Option(help="0 takes a free port.")] = 4200,
) -> None:
    """The MLflow and Prefect pages on the embedded stores, until Ctrl-C."""
    from flows.commands.ui import show_pages

    show_pages(open_browser, mlflow_port, prefect_port)


@app.command()
def deploy(
    timezone: Annotated[
        str, typer.Option(envvar="UNROLL_TIMEZONE", help="Of the schedules, such as Europe/Madrid.")
    ] = "UTC",
    stuck_after: Annotated[
        float, typer.Option(min=0.1, help="Hours after which a run that has not ended is told of.", metavar="HOURS")
    ] = 6.0,
) -> None:
    """Make the deployments, schedules, triggers and alerts on the Prefect server in PREFECT_API_URL; repeatable."""
    from flows.commands.deploy import deploy as deploy_flows

    deploy_flows(timezone, stuck_after)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 8000,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Version number, alias, or name/version of a project; the champion by default. Repeatable.",
            metavar="PROJECT=VERSION",
        ),
    ] = None,
    token_env: Annotated[
        str | None, typer.Option(help="Environment variable with the bearer token to ask for.", metavar="NAME")
    ] = None,
    poll: Annotated[float, typer.Option(min=0.1, help="Seconds from one look at the registry to the next.")] = 5.0,
) -> None:
    """REST and a page for the champions, until Ctrl-C; new champions take over while requests go on."""
    from flows.commands.serve import serve as serve_models

    serve_models(host, port, model or [], token_env, poll)


@app.command()
def watch(
    project: Annotated[Literal["sentiment", "language-model", "all"], typer.Argument(help="What to look at.")] = "all",
    config: Annotated[str, typer.Option("--config", "-c", help="Preset name or YAML file.")] = "sample",
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="section.key=value; repeatable.", metavar="KEY=VALUE")
    ] = None,
) -> None:
    """Look once whether a corpus or preset changed since the last look; changes become Prefect events."""
    from flows.commands.watch import look_once

    projects = ["sentiment", "language_model"] if project == "all" else [project.replace("-", "_")]
    look_once(projects, config, settings or [])


@app.command()
def doctor(
    make_env: Annotated[
        bool, typer.Option("--make-env", help="Write what .env lacks of the stack's secrets, at random, and end.")
    ] = False,
    env_file: Annotated[Path, typer.Option(help="The file that --make-env writes.")] = Path(".env"),
    replace: Annotated[bool, typer.Option("--replace", help="With --make-env: new values for all of them.")] = False,
) -> None:
    """What this machine has and what is misconfigured."""
    from flows.commands.doctor import examine, write_env

    if make_env:
        write_env(env_file, replace)
        return

    raise typer.Exit(examine())


@app.command()
def clean(
    everything: Annotated[bool, typer.Option("--all", help="Drop every artifact, needed or not.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be dropped.")] = False,
) -> None:
    """Drop artifacts that no kept run needs, and what killed runs left."""
    from flows.commands.clean import clean_store

    clean_store(everything, dry_run)


def _spare_a_busy_machine() -> None:
    """Let idle threads sleep rather than spin where others want the cores; torch reads this when it is imported.

    Measured on two cores with this project's LSTMs: alone, spinning trains half as fast again; beside two other busy
    processes it trains at a third of the speed of sleeping.
    """
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.5 * (os.cpu_count() or 1):
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main() -> None:
    """Run the command line; errors that a user can mend end in one message and their exit code."""
    _spare_a_busy_machine()
    # a terminal that cannot show a character shows another in its place
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app(args=_debug_first(sys.argv[1:]))
    except UnrollError as error:
        _give_up(str(error), error.exit_code)
    except KeyboardInterrupt:
        _give_up("stopped by Ctrl-C.", 130)
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no message"])[0][:500]
        _give_up(f"{type(error).__name__}: {reason}\nNo such end was foreseen; run again with --debug to see where.", 1)


def _debug_first(arguments: list[str]) -> list[str]:
    """``unroll run … --debug`` means ``unroll --debug run …``; what stands after ``--`` is no option."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    flags = [argument for argument in arguments[:end] if argument == "--debug"]
    return [*flags[:1], *(argument for argument in arguments[:end] if argument != "--debug"), *arguments[end:]]


def _give_up(message: str, exit_code: int) -> NoReturn:
    """Print the message, after the traceback where --debug asks for it, and exit."""
    if _debug:
        traceback.print_exc()
    print(f"Error: {message}", file=sys.stderr)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
