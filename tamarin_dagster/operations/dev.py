"""`make dev`: everything on one machine, in one terminal. Starts it, says where it is, ends all of it on ctrl-C.

With no buckets configured a demo comes along: a local S3 endpoint and a bucket whose log keys keep arriving.
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
from tamarin_dagster.logstore.files import write_whole_file
from tamarin_dagster.operations.watchdog import LOCATION, look_after
from tamarin_dagster.private_files import make_home, make_private_folder
from tamarin_dagster.recordstore.connections import embedded_postgres
from tamarin_dagster.recordstore.database import open_database
from tamarin_dagster.recordstore.waiting import saying
from tamarin_dagster.settings import Settings, load_settings

_log = logging.getLogger(__name__)

_DAGSTER_YAML = Path(__file__).parents[1] / "orchestration" / "dagster.yaml"
# A first start makes the cluster and Dagster's tables; a cold import of everything takes longest.
PAGE_SECONDS = 180
# Of an end that nobody asked for.
EXIT_UNASKED = 1
STOP_SECONDS = 20
PROGRAM = "tamarin-dagster"
# In the demo new keys come every 15 seconds, and the sensor looks as often; the weeks before are for a backfill.
DEMO_INTERVAL_MINUTES = 0.25
DEMO_MONITORED_DAYS = 2
_POLL_SECONDS = 0.2
# Dagster's daemon warns on each new home that it begins with the present events, and says each second that it looks at
# queued runs.
_NOISE = (b"No cursor for event type", b"Priority sorting and checking tag concurrency limits")
# Of Linux' prctl.
_PR_SET_PDEATHSIG = 1


def run(host: str, port: int) -> int:
    """Runs until ctrl-C, SIGTERM or the end of Dagster; returns the exit status.

    Raises SettingsError, DatabaseError and EmbeddedPostgresError.
    """
    console = Console(soft_wrap=True)
    settings = load_settings(for_demo=True)
    with ExitStack() as stack:
        stack.enter_context(_terminable())
        stack.callback(_no_longer_keep_running, settings)
        compilation = stack.enter_context(_compilation())
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
        dagster = stack.enter_context(_process(command, environment, stdout=subprocess.PIPE))
        threading.Thread(target=_pass_on, args=(dagster, console), name="dagster-output", daemon=True).start()
        with _step(console, "Starting Dagster (10 to 30 seconds)"):
            answers = _await_page(f"{page}/server_info", dagster)
        if answers:
            _announce(console, page, settings)
        try:
            # Dagster ends with 0 when somebody kills its daemon or its page; whoever looks after us must not take that
            # for an end that was asked for.
            return look_after(dagster, page) or EXIT_UNASKED
        except KeyboardInterrupt:
            console.print("Stopping …")
            return 0


@contextmanager
def _compilation() -> Iterator["subprocess.Popen[bytes] | None"]:
    """Compile what `tamarin-dagster compile` does, during the start of the rest, if nobody has done so.

    Otherwise each of the first runs would do it, all at the same time.
    """
    if not should_compile():
        yield None
        return
    command = [sys.executable, "-m", "tamarin_dagster.cli", "compile"]
    with _process(command, dict(os.environ), stdout=subprocess.DEVNULL) as process:
        yield process


def _no_longer_keep_running(settings: Settings) -> None:
    """ctrl-C ends all: also an embedded server whose URL was given to somebody meanwhile."""
    if not (settings.database_url and settings.dagster_database_url):
        embedded_postgres(settings.home).keep_running(keep=False)


@contextmanager
def _demo(settings: Settings, console: Console) -> Iterator[Settings]:
    """The demo's endpoint, running, and the settings with its bucket; they are the children's too."""
    from tamarin_dagster.demo import endpoint  # noqa: PLC0415 - needs the extra `demo`

    port = endpoint.free_port()
    url = f"http://{endpoint.LOOPBACK}:{port}"
    make_home(settings.home)
    config = settings.home / DEMO_CONFIG
    with write_whole_file(config) as file:
        file.write(_demo_config(url, settings).encode())
    os.environ |= {CONFIG_VARIABLE: str(config), "TAMARIN_HOME": str(settings.home)} | endpoint.demo_environment()
    os.environ.pop("AWS_PROFILE", None)  # one that is missing here would stop every client
    console.print(
        f"No buckets are configured in tamarin.yaml: the demo comes along (its settings: {escape(str(config))})."
    )
    command = [sys.executable, "-m", "tamarin_dagster.demo", "--port", str(port), "--parent-pid", str(os.getpid())]
    with _process(command, dict(os.environ)) as demo:
        days = endpoint.DEFAULT_HISTORY_DAYS
        with (
            _step(console, f"Starting the demo's S3 endpoint, and writing {days} days of its log"),
            saying(f"Waiting for the demo's S3 endpoint at {url}"),
        ):
            endpoint.wait_until_ready(url, alive=lambda: demo.poll() is None)
        yield load_settings()


def _demo_config(endpoint_url: str, settings: Settings) -> str:
    """The settings of the demo's bucket: the sensor takes the newest days, the weeks before are for a backfill."""
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
    """Dagster's home with its dagster.yaml, which is yours to edit once it is there."""
    make_home(settings.home)
    home = settings.home / "dagster"
    make_private_folder(home)
    if not (home / "dagster.yaml").exists():
        with write_whole_file(home / "dagster.yaml") as file:
            file.write(_DAGSTER_YAML.read_bytes())
    return home


def _workspace(settings: Settings) -> Path:
    """Return the project's workspace.yaml, or one like it in the home where the package was installed without it."""
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
    """Say what is being done: with a spinner on a terminal, with a line elsewhere."""
    if not console.is_terminal:
        console.print(f"{text} …", highlight=False)
        yield
        return
    started = time.monotonic()
    with console.status(f"{text} …"):
        yield
    console.print(f"{text}: {time.monotonic() - started:.1f} s", highlight=False)


def _pass_on(dagster: "subprocess.Popen[bytes]", console: Console) -> None:
    """Show what Dagster says, line by line above a spinner, without what tells nobody anything."""
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
    first = "Look first at Runs, where the sensor's loads appear, and then at the Catalog"
    first += "; a backfill of log_records there loads the weeks before." if is_demo_home(settings.home) else "."
    console.print(f"Watched buckets: {escape(watched)}", highlight=False)
    console.print(first, highlight=False)
    console.print(f"SQL, in another terminal in this folder: {_program()} {ask}", highlight=False)
    console.print(f"Also there: {_program()} buckets, hogs, report, doctor.", highlight=False)
    console.print("ctrl-C ends it all.\n", highlight=False)


def _program() -> str:
    """Return how a person calls the command line in this folder: by its name, or by the path of this installation's."""
    here = Path(sys.executable).with_name(PROGRAM)
    found = shutil.which(PROGRAM)
    if not here.exists() or (found and Path(found).samefile(here)):
        return PROGRAM
    return shlex.quote(str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here))


@contextmanager
def _process(
    command: list[str], environment: dict[str, str], stdout: int | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A child in a group of its own, ended with all of its own children: a ctrl-C in the terminal is for us alone."""
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
            if _group_ended(process, sign):
                break
            _log.warning("%s did not end within %s s", command[-1], STOP_SECONDS)


def _end_with_parent() -> None:
    """In the child: should we be killed -9, it is told to end, and its own children end with it.

    Two of Dagster's daemons on one home hinder each other.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _group_ended(process: "subprocess.Popen[bytes]", sign: signal.Signals) -> bool:
    """Signals the child and all in its group; whether they are gone within STOP_SECONDS.

    The child alone may end first: a run under way is given the time to finish its batch.
    """
    deadline = time.monotonic() + STOP_SECONDS
    try:
        os.killpg(process.pid, sign)
        while time.monotonic() < deadline:
            process.poll()  # a child that is not waited for would count as one of its group
            os.killpg(process.pid, 0)
            time.sleep(_POLL_SECONDS)
    except ProcessLookupError:
        return True
    return False


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM is taken as a ctrl-C is; and ctrl-C works also where a shell started us with it ignored."""

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
