"""The stack's commands, which the Makefile's targets call: ``python -m stack up``."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from unroll.errors import UnrollError

app = typer.Typer(
    help="PostgreSQL, Prefect, MLflow, a worker and `unroll serve` as processes of this machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
)

containers = typer.Typer(help="The same as containers, through compose.", no_args_is_help=True)
app.add_typer(containers, name="containers")

_debug = False


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logs.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings only.")] = False,
) -> None:
    """PostgreSQL, Prefect, MLflow, a worker and `unroll serve` as processes of this machine."""
    global _debug
    _debug = debug
    from flows.logs import set_up_logs

    set_up_logs(logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO)


@app.command()
def up(
    without: Annotated[list[str] | None, typer.Option(help="Leave a service out; repeatable.", metavar="NAME")] = None,
) -> None:
    """Start everything and return when it is healthy; what runs already is left to run."""
    from stack.start import start

    setup = start(without or [])
    place = setup.place
    print(f"Prefect   {place.url('prefect')}   (asks for PREFECT_API_AUTH_STRING of {setup.env_file.name})")
    print(f"MLflow    {place.url('mlflow')}   (user and password: MLFLOW_TRACKING_… of {setup.env_file.name})")
    print(f"serve     {place.url('serve')}   (bearer token: UNROLL_SERVE_TOKEN of {setup.env_file.name})")
    print(f"logs      {setup.logs}")
    print('To use it from this shell: eval "$(make -s stack-env)". To stop it: make stack-down.')


@app.command()
def down() -> None:
    """Stop everything; the data stay."""
    from flows.env_file import read_env
    from stack.setup import env_file, read_setup
    from stack.start import stop

    if not read_env(env_file()):
        print("The stack is not running.")
        return
    print("The stack is stopped." if stop(read_setup()) else "The stack is not running.")


@app.command()
def status() -> None:
    """Every service and its health; exit code 1 where one is not as it should be."""
    from stack.status import show_status

    raise typer.Exit(show_status())


@app.command()
def env() -> None:
    """Lines for the shell, so that `unroll`, `prefect` and `mlflow` use the stack."""
    from stack.services import client_environment
    from stack.setup import read_setup

    setup = read_setup()
    for name, value in client_environment(setup.settings, setup.place).items():
        print(f"export {name}={shlex.quote(value)}")


@app.command("rotate")
def rotate_secrets() -> None:
    """A new random value for every secret of .env; what runs is started anew with them."""
    from stack.rotate import rotate

    print(f"{rotate().env_file} has new secrets; whoever used the old ones needs them.")


@app.command()
def backup(
    file: Annotated[Path | None, typer.Argument(help="The file to write; backups/unroll-TIME.tar by default.")] = None,
    inside: Annotated[bool, typer.Option("--inside", help="In a container: PGHOST and its kind say where.")] = False,
) -> None:
    """Databases and artifacts in one file, while everything goes on."""
    from stack.access import open_vault
    from stack.backup import default_name, write_backup

    target = file or Path("backups") / default_name()
    with open_vault(inside, keep=True) as vault:
        contents = write_backup(vault, target)
    print(f"{target}: {len(contents.digests):,} files, {contents.size / 2**20:.1f} MiB")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A file that backup wrote.")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace what is there.")] = False,
    inside: Annotated[bool, typer.Option("--inside", help="In a container: PGHOST and its kind say where.")] = False,
) -> None:
    """Put back what a backup holds, once every digest in it fits."""
    from stack.access import open_vault
    from stack.archive import read_archive
    from stack.restore import restore_backup

    read_archive(file)  # before anything is stopped
    with open_vault(inside, keep=False) as vault:
        contents = restore_backup(vault, file, replace)
    print(f"{file} of {contents.about['made']} is restored: {len(contents.digests):,} files")


@containers.command("up")
def containers_up(
    profile: Annotated[list[str] | None, typer.Option(help="gpu or s3; repeatable.", metavar="NAME")] = None,
) -> None:
    """Build the images, start everything, and return when it is healthy."""
    from stack.containers import up

    up(profile or [])
    print("The containers are healthy. Addresses and logins: docs/operate.md; make logs, make down.")


@containers.command("restore")
def containers_restore(
    file: Annotated[Path, typer.Argument(help="A file that backup wrote.")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace what is there.")] = False,
) -> None:
    """Put back what a backup holds; what ran before runs again after it."""
    from stack.containers import restore

    restore(file, replace)


@containers.command("rotate")
def containers_rotate() -> None:
    """A new random value for every secret of .env; what runs is started anew with them."""
    from stack.containers import rotate

    rotate()
    print(".env has new secrets; whoever used the old ones needs them.")


def main() -> None:
    """Run a command; errors that a user can mend end in one message and their exit code."""
    try:
        app()
    except UnrollError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("Error: stopped by Ctrl-C.", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if _debug:
            raise
        reason = (str(error).strip().splitlines() or ["no message"])[0][:500]
        print(
            f"Error: {type(error).__name__}: {reason}\nNo such end was foreseen; --debug shows where.", file=sys.stderr
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
