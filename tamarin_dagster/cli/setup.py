"""Commands that set up: demo log keys, the compiled parser, `make dev`."""

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tamarin_dagster.cli.app import command
from tamarin_dagster.cli.terminal import bar, err
from tamarin_dagster.plurals import count_noun
from tamarin_dagster.settings import SettingsError
from tamarin_dagster.settings import load_settings as settings_of_folder

_SETTINGS = """\
purge_parsed_keys: false
buckets:
  - name: {name}
    log_bucket_name: "{place}"
    log_prefix: {prefix}"""


@command(
    "demo-logs",
    ("demo-logs --lines 100000 --out /tmp/keys", "100,000 lines, three weeks; log_prefix is logs/"),
    ("demo-logs --lines 5000000 --keys 500 --days 90 --out /tmp/keys", "a quarter with large log keys"),
)
def demo_logs(
    lines: Annotated[int, typer.Option(min=1, help="The total number of lines.", metavar="N")],
    out: Annotated[Path, typer.Option(help="The folder to write log keys to.", file_okay=False, metavar="DIR")],
    keys: Annotated[
        int | None, typer.Option(min=1, help="The number of log keys; default: 1 for about 500 lines.", metavar="N")
    ] = None,
    days: Annotated[
        int, typer.Option(min=1, help="The number of days, up to today, that the log keys cover.", metavar="N")
    ] = 21,
    seed: Annotated[int, typer.Option(help="The same seed gives the same lines.", metavar="N")] = 2011,
) -> None:
    """Write realistic log keys of a media site to a folder.

    Use it to try a pull, queries or a dashboard without your own log. The command prints the settings of a bucket that
    loads the folder.
    """
    from tamarin_dagster.demo import DemoSite, write_log_keys  # noqa: PLC0415 - only this command needs it
    from tamarin_dagster.demo.writing import LOG_PREFIX  # noqa: PLC0415

    with bar("Writing", "lines") as advance:
        written = write_log_keys(
            out, lines=lines, keys=keys, days=days, seed=seed, progress=lambda n: advance(n, lines)
        )
    err.print(
        f"{count_noun(written.lines, 'line')} in {count_noun(written.keys, 'log key')} ({written.bytes:,} bytes)"
        f" under {escape(str(out))}"
    )
    err.print("To load them, put this in the place of what is in tamarin.yaml:\n")
    err.print(
        escape(_SETTINGS.format(name=DemoSite.bucket, place=out.resolve().as_uri(), prefix=LOG_PREFIX)),
        highlight=False,
        soft_wrap=True,
    )


@command("compile", ("compile", "in a Dockerfile, after pip install"))
def compile_command() -> None:
    """Compile the parser now; otherwise its first use compiles it.

    The command also compiles the byte code of the modules that runs and commands import, even if
    PYTHONDONTWRITEBYTECODE is set. Use it for installations and images. It takes half a minute. The result is kept next
    to the code, or in the user's cache.
    """
    from tamarin_dagster.recordstore.loading import compile_all  # noqa: PLC0415 - numba takes half a second

    # Its log lines would repeat the status below.
    logging.getLogger("tamarin_dagster.logformat.compiled").setLevel(logging.ERROR)
    # Both at the same time, each on its own core.
    with err.status("Compiling the parser, and byte code"), _compile_byte_code():
        compile_all()


# The modules that `dagster dev`, a code server, a run and a command import. The module of an extra may be missing.
_IMPORTED = (
    "tamarin_dagster.definitions",
    "tamarin_dagster.orchestration.s3_resource",
    "tamarin_dagster.operations.dev",
    "tamarin_dagster.demo.endpoint",
    "tamarin_dagster.demo.__main__",
    "dagster._cli",
    "dagster._cli.api",
    "dagster._daemon.cli",
    "dagster._grpc.server",
    "dagster_webserver.cli",
    "dagster_postgres",
    "alembic.command",
)
_IMPORT_ALL = f"""
import contextlib, importlib
for name in {_IMPORTED!r}:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
from tamarin_dagster.cli.app import load_commands
load_commands()
"""


@contextmanager
def _compile_byte_code() -> Iterator[None]:
    """Import all modules in a process that writes byte code; PYTHONDONTWRITEBYTECODE may forbid it to this one.

    The process uses default settings: those of this folder may name databases and buckets that do not exist.
    """
    foreign = ("TAMARIN_", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    with tempfile.TemporaryDirectory(prefix="tamarin-compile-") as folder:
        with subprocess.Popen([sys.executable, "-c", _IMPORT_ALL], cwd=folder, env=environment) as process:
            yield
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, "the compilation of byte code")


HostOption = Annotated[str, typer.Option("--host", help="The address that the Dagster UI listens on.", metavar="HOST")]
PortOption = Annotated[
    int,
    typer.Option("--port", help="The UI's port; if it is in use, the next free one is taken.", metavar="PORT"),
]


@command("demo", ("demo", "then open http://127.0.0.1:3000, and run queries in a second terminal"))
def demo(host: HostOption = "127.0.0.1", port: PortOption = 3000) -> None:
    """Run the demo: Postgres, an S3 endpoint with a media site's log, and Dagster.

    It does what `make dev` does, in any folder where no bucket is configured. Every command that you then run in the
    same folder uses the demo's data, and says so. The demo keeps its records in its own folder (.tamarin-demo).
    """
    if settings_of_folder().buckets:
        raise SettingsError("buckets are configured here: run the demo in another folder or with other settings")
    try:
        import moto.server  # noqa: F401, PLC0415 - an extra
    except ModuleNotFoundError:
        raise SettingsError("the demo needs an extra: pip install 'tamarin-dagster[demo]'") from None
    dev(host, port)


@command("dev")
def dev(host: HostOption = "127.0.0.1", port: PortOption = 3000) -> None:
    """Run what `make dev` runs: the database, the demo if no bucket is configured, and Dagster."""
    from tamarin_dagster.operations.dev import run  # noqa: PLC0415 - only this command needs it

    raise typer.Exit(run(host, port))
