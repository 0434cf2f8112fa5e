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
from tamarin_dagster.settings import SettingsError
from tamarin_dagster.settings import load_settings as settings_of_folder


@command(
    "demo-logs",
    ("demo-logs --lines 100000 --out /tmp/keys", "100,000 lines, three weeks; log_prefix is logs/"),
    ("demo-logs --lines 5000000 --keys 500 --days 90 --out /tmp/keys", "a quarter with large log keys"),
)
def demo_logs(
    lines: Annotated[int, typer.Option(min=1, help="How many lines in all.", metavar="N")],
    out: Annotated[Path, typer.Option(help="The folder to write log keys to.", file_okay=False, metavar="DIR")],
    keys: Annotated[
        int | None, typer.Option(min=1, help="How many log keys; default: one per about 500 lines.", metavar="N")
    ] = None,
    days: Annotated[
        int, typer.Option(min=1, help="Days, up to today, that the keys are spread over.", metavar="N")
    ] = 21,
    seed: Annotated[int, typer.Option(help="The same seed gives the same lines.", metavar="N")] = 2011,
) -> None:
    """Writes believable log keys of a media site to a folder.

    To try a pull, queries or a dashboard without a log of one's own: a file:// URL of the folder serves as
    log_bucket_name, with log_prefix: logs/.
    """
    from tamarin_dagster.demo import write_log_keys  # noqa: PLC0415 - only this command needs it

    with bar("Writing", "lines") as advance:
        written = write_log_keys(
            out, lines=lines, keys=keys, days=days, seed=seed, progress=lambda n: advance(n, lines)
        )
    err.print(
        f"{written.lines:,} lines in {written.keys:,} log keys ({written.bytes:,} bytes) under {escape(str(out))}"
    )


@command("compile", ("compile", "in a Dockerfile, behind pip install"))
def compile_command() -> None:
    """Compiles the parser, which its first use does else.

    And the byte code of the modules that runs and commands import, even if PYTHONDONTWRITEBYTECODE is set. For
    installations and images. It takes half a minute; the result is kept next to the code, or in the user's cache.
    """
    from tamarin_dagster.recordstore.loading import compile_ahead  # noqa: PLC0415 - numba takes half a second

    # It would say the same.
    logging.getLogger("tamarin_dagster.logformat.compiled").setLevel(logging.ERROR)
    # At the same time, each on a core of its own.
    with err.status("Compiling the parser, and byte code"), _compiled_byte_code():
        compile_ahead()


# What `dagster dev`, a code server, a run and a command import. An extra may be missing.
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
def _compiled_byte_code() -> Iterator[None]:
    """Import all of it in a process that writes byte code; Python leaves out what it may not write.

    Its settings are the default ones: those of this folder may name databases and buckets that are not there.
    """
    foreign = ("TAMARIN_", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    with tempfile.TemporaryDirectory(prefix="tamarin-compile-") as folder:
        with subprocess.Popen([sys.executable, "-c", _IMPORT_ALL], cwd=folder, env=environment) as process:
            yield
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, "the compilation of byte code")


HostOption = Annotated[str, typer.Option("--host", help="Where the Dagster UI listens.", metavar="HOST")]
PortOption = Annotated[
    int,
    typer.Option("--port", help="The UI's port; the next free one is taken if it is in use.", metavar="PORT"),
]


@command("demo", ("demo", "then look at http://127.0.0.1:3000, and ask in a second terminal"))
def demo(host: HostOption = "127.0.0.1", port: PortOption = 3000) -> None:
    """Runs the demo: Postgres, an S3 endpoint with a media site's log, and Dagster.

    It does what `make dev` does, in any folder, as long as no bucket is configured. Every command that you run in the
    same folder then works on the demo's data, and says so. Its records are in a folder of their own (.tamarin-demo).
    """
    if settings_of_folder().buckets:
        raise SettingsError("buckets are configured here: run the demo in another folder, or with other settings")
    try:
        import moto.server  # noqa: F401, PLC0415 - an extra
    except ModuleNotFoundError:
        raise SettingsError("the demo needs an extra: pip install 'tamarin-dagster[demo]'") from None
    dev(host, port)


@command("dev")
def dev(host: HostOption = "127.0.0.1", port: PortOption = 3000) -> None:
    """What `make dev` runs: the database, the demo if no bucket is configured, and Dagster."""
    from tamarin_dagster.operations.dev import run  # noqa: PLC0415 - only this command needs it

    raise typer.Exit(run(host, port))
