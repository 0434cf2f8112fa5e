"""`make dev`: start everything on one machine, in one terminal; show the address; end everything on ctrl-C.

If no bucket is configured, it adds a demo: a local S3 endpoint, and a bucket whose log keys keep arriving.
"""

import ctypes
import logging
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from rich.console import Console
from rich.markup import escape

from tamarin_dagster.homes import CONFIG_VARIABLE, DEMO_CONFIG, is_demo_home
from tamarin_dagster.logformat.machine_code import should_compile
from tamarin_dagster.operations.watchdog import LOCATION, watch
from tamarin_dagster.private_files import make_home, make_private_folder, write_whole_file
from tamarin_dagster.recordstore.connections import embedded_postgres
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.recordstore.waiting import announce_wait
from tamarin_dagster.settings import Settings, load_settings

_log = logging.getLogger(__name__)

_DAGSTER_YAML = Path(__file__).parents[1] / "orchestration" / "dagster.yaml"
# A first start creates the database cluster and Dagster's tables. The first import of everything takes longest.
PAGE_SECONDS = 180
# The exit status after an unexpected end.
EXIT_UNASKED = 1
STOP_SECONDS = 20
PROGRAM = "tamarin-dagster"
# In the demo new keys arrive every 15 seconds, and the sensor ticks as often. The earlier weeks are for a backfill.
DEMO_INTERVAL_MINUTES = 0.25
DEMO_MONITORED_DAYS = 2
_POLL_SECONDS = 0.2
# In each new home Dagster's daemon warns that it begins with current events. It also logs each second that it checks
# queued runs.
_NOISE = (b"No cursor for event type", b"Priority sorting and checking tag concurrency limits")
# The option PR_SET_PDEATHSIG of Linux' prctl.
_PR_SET_PDEATHSIG = 1


def run(host: str, port: int) -> int:
    """Run until ctrl-C, SIGTERM or the end of Dagster, and return the exit status.

    Raises SettingsError, DatabaseError and EmbeddedPostgresError.
    """
    console = Console(soft_wrap=True)
    settings = load_settings(for_demo=True)
    with ExitStack() as stack:
        stack.enter_context(_interrupt_on_sigterm())
        stack.callback(_release_server, settings)
        compilation = stack.enter_context(_compile_in_background())
        if settings.buckets:
            console.print(f"Settings: {escape(os.environ.get(CONFIG_VARIABLE, 'tamarin.yaml'))}")
        else:
            settings = stack.enter_context(_demo(settings, console))
        with _step(console, "Starting Postgres"):
            open_database(settings).dispose()
        if compilation:
            with _step(console, "Compiling the parser, once for this installation (half a minute)"):
                compilation.wait()
        environment = os.environ | {
            "TAMARIN_HOME": str(settings.home),
            "DAGSTER_HOME": str(_dagster_home(settings)),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "PYTHONUNBUFFERED": "1",
        }
        port = _free_port(host, port)
        command = [sys.executable, "-W", "ignore", "-m", "dagster", "dev", "-h", host, "-p", str(port)]
        command += ["-w", str(_workspace(settings))]
        page = f"http://{host}:{port}"
        dagster = stack.enter_context(_run_child(command, environment, stdout=subprocess.PIPE))
        threading.Thread(target=_pass_on, args=(dagster, console), name="dagster-output", daemon=True).start()
        with _step(console, "Starting Dagster (10 to 30 seconds)"):
            answers = _await_page(f"{page}/server_info", dagster)
        if answers:
            _announce(console, page, settings)
        try:
            # Dagster exits with 0 when its daemon or webserver is killed. A supervisor must not take that for a
            # requested end.
            return watch(dagster, page) or EXIT_UNASKED
        except KeyboardInterrupt:
            console.print("Stopping …")
            return 0


@contextmanager
def _compile_in_background() -> Iterator["subprocess.Popen[bytes] | None"]:
    """Compile what `tamarin-dagster compile` compiles, unless that is done, while the rest starts.

    Otherwise each of the first runs would compile it, all at the same time.
    """
    if not should_compile():
        yield None
        return
    command = [sys.executable, "-m", "tamarin_dagster.cli", "compile"]
    with _run_child(command, dict(os.environ), stdout=subprocess.DEVNULL) as process:
        yield process


def _release_server(settings: Settings) -> None:
    """Let ctrl-C also end an embedded server whose URL was given out in the meantime."""
    if not (settings.database_url and settings.dagster_database_url):
        embedded_postgres(settings.home).keep_running(keep=False)


@contextmanager
def _demo(settings: Settings, console: Console) -> Iterator[Settings]:
    """Run the demo's endpoint, and yield the settings with its bucket, which the children use too."""
    from tamarin_dagster.demo import endpoint  # noqa: PLC0415 - needs the extra `demo`

    port = endpoint.free_port()
    url = f"http://{endpoint.LOOPBACK}:{port}"
    make_home(settings.home)
    config = settings.home / DEMO_CONFIG
    with write_whole_file(config) as file:
        file.write(_demo_config(url, settings).encode())
    os.environ |= {CONFIG_VARIABLE: str(config), "TAMARIN_HOME": str(settings.home)} | endpoint.demo_environment()
    os.environ.pop("AWS_PROFILE", None)  # a profile that does not exist here would stop every client
    console.print(
        f"No buckets are configured in tamarin.yaml, so the demo starts too (its settings: {escape(str(config))})."
    )
    command = [sys.executable, "-m", "tamarin_dagster.demo", "--port", str(port), "--parent-pid", str(os.getpid())]
    with _run_child(command, dict(os.environ)) as demo:
        days = endpoint.DEFAULT_HISTORY_DAYS
        with (
            _step(console, f"Starting the demo's S3 endpoint, and writing {days} days of its log"),
            announce_wait(f"Waiting for the demo's S3 endpoint at {url}"),
        ):
            endpoint.wait_until_ready(url, alive=lambda: demo.poll() is None)
        yield load_settings()


def _demo_config(endpoint_url: str, settings: Settings) -> str:
    """Return the settings of the demo's bucket: the sensor loads the newest days, a backfill the earlier weeks."""
    from tamarin_dagster.demo import endpoint  # noqa: PLC0415 - needs the extra `demo`

    today = datetime.now(UTC).date()
    bucket = {
        "name": endpoint.DEMO_SITE.bucket,
        "log_bucket_name": endpoint.LOG_BUCKET,
        "log_prefix": endpoint.LOG_PREFIX,
        "endpoint_url": endpoint_url,
        "region": endpoint.DEMO_SITE.region,
        "start_date": (today - timedelta(days=endpoint.DEFAULT_HISTORY_DAYS)).isoformat(),
        "monitor_from": (today - timedelta(days=DEMO_MONITORED_DAYS)).isoformat(),
    }
    entries = {"home": str(settings.home), "pull_parse_interval": DEMO_INTERVAL_MINUTES, "buckets": [bucket]}
    return "# Written by `make dev` when no buckets are configured.\n" + yaml.safe_dump(entries, sort_keys=False)


def _dagster_home(settings: Settings) -> Path:
    """Return Dagster's home. Its dagster.yaml is written once; after that it is yours to edit."""
    make_home(settings.home)
    home = settings.home / "dagster"
    make_private_folder(home)
    if not (home / "dagster.yaml").exists():
        with write_whole_file(home / "dagster.yaml") as file:
            file.write(_DAGSTER_YAML.read_bytes())
    return home


def _workspace(settings: Settings) -> Path:
    """Return the project's workspace.yaml. If the package is installed without it, write one into the home."""
    path = Path(__file__).parents[2] / "workspace.yaml"
    if path.exists():
        return path
    path = settings.home / "dagster" / "workspace.yaml"
    module = {"module_name": "tamarin_dagster.code_location", "location_name": LOCATION}
    with write_whole_file(path) as file:
        file.write(yaml.safe_dump({"load_from": [{"python_module": module}]}).encode())
    return path


@contextmanager
def _step(console: Console, text: str) -> Iterator[None]:
    """Report a step: with a spinner on a terminal, with a line elsewhere."""
    if not console.is_terminal:
        console.print(f"{text} …", highlight=False)
        yield
        return
    started = time.monotonic()
    with console.status(f"{text} …"):
        yield
    console.print(f"{text}: {time.monotonic() - started:.1f} s", highlight=False)


def _pass_on(dagster: "subprocess.Popen[bytes]", console: Console) -> None:
    """Show Dagster's output line by line above a spinner, without useless lines."""
    if dagster.stdout is None:
        return
    for line in dagster.stdout:
        if not any(noise in line for noise in _NOISE):
            console.out(line.decode("utf-8", "replace").rstrip("\n"), highlight=False)


def _free_port(host: str, port: int) -> int:
    for candidate in range(port, port + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError:
                continue
            return candidate
    raise OSError(f"no free port from {port} to {port + 99} on {host}")


def _await_page(url: str, process: "subprocess.Popen[bytes]") -> bool:
    deadline = time.monotonic() + PAGE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own http URL
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(_POLL_SECONDS)
    return False


def _announce(console: Console, page: str, settings: Settings) -> None:
    watched = ", ".join(bucket.name for bucket in settings.buckets if bucket.monitor_bucket) or "none"
    console.print("\nThe Dagster UI:", style="bold")
    console.print(page, style="bold green", highlight=False)
    ask = 'sql "SELECT count(*) FROM s3_log_record"'
    first = "Open Runs first, where the sensor's loads appear, and then the Catalog"
    first += "; a backfill of log_records there loads the earlier weeks." if is_demo_home(settings.home) else "."
    console.print(f"Watched buckets: {escape(watched)}", highlight=False)
    console.print(first, highlight=False)
    console.print(f"SQL, in another terminal in this folder: {_program()} {ask}", highlight=False)
    console.print(f"Other commands: {_program()} buckets, top-talkers, report, doctor.", highlight=False)
    console.print("ctrl-C ends everything.\n", highlight=False)


def _program() -> str:
    """Return how to call the command line in this folder: by its name, or by the path of this installation."""
    here = Path(sys.executable).with_name(PROGRAM)
    found = shutil.which(PROGRAM)
    if not here.exists() or (found and Path(found).samefile(here)):
        return PROGRAM
    return shlex.quote(str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here))


@contextmanager
def _run_child(
    command: list[str], environment: dict[str, str], stdout: int | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a child in its own process group, so that only we get a ctrl-C, and end it with all of its children."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=stdout,
        stderr=subprocess.STDOUT if stdout is not None else None,
        start_new_session=True,
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no other thread forks here
    )
    try:
        yield process
    finally:
        for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if _signal_group(process, sign):
                break
            _log.warning("%s did not end within %s s", command[-1], STOP_SECONDS)


def _end_with_parent() -> None:
    """Ask the kernel, in the child, to end it if we are killed with -9; its own children end with it.

    Two Dagster daemons on one home hinder each other.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal_group(process: "subprocess.Popen[bytes]", sign: signal.Signals) -> bool:
    """Signal the child and its group, and return whether all are gone within STOP_SECONDS.

    The child may end before its group: a run in progress gets the time to finish its batch.
    """
    deadline = time.monotonic() + STOP_SECONDS
    try:
        os.killpg(process.pid, sign)
        while time.monotonic() < deadline:
            process.poll()  # until we wait for it, an ended child would count as a member of its group
            os.killpg(process.pid, 0)
            time.sleep(_POLL_SECONDS)
    except ProcessLookupError:
        return True
    return False


@contextmanager
def _interrupt_on_sigterm() -> Iterator[None]:
    """Treat SIGTERM like ctrl-C, and let ctrl-C work even if a shell started us with SIGINT ignored."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {sign: signal.signal(sign, interrupt) for sign in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        _log.info("stopped")
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
