"""Our programs as commands of a shell, without their start: a process that has imported everything forks for each call.

`tamarin-dagster` takes a second to import what it needs, `dagster` two; the pages of documentation call them a hundred
times. Whoever calls sees a program as ever: arguments, folder, environment, standard streams, exit status.
"""

import atexit
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Asks the server, from a Python without site-packages: that starts in 20 ms.
# By way of a shell: the path of Python may have a blank, which no line with #! may.
_CLIENT = """#!/bin/sh
'''exec' "{python}" -IS "$0" "$@"
' '''
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
call = {{"program": {program!r}, "arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}
socket.send_fds(server, [b"."], [0, 1, 2])
server.sendall(json.dumps(call).encode())
server.shutdown(socket.SHUT_WR)
sys.exit(int(server.recv(16) or b"70"))
"""
PROGRAMS = ("tamarin-dagster", "dagster", "dg", "run-python")
_START_SECONDS = 120


@contextmanager
def forking_programs(folder: Path) -> Iterator[Path]:
    """A folder for PATH that has the PROGRAMS."""
    address = folder / "programs.sock"
    environment = os.environ | {"COLUMNS": "200", "PYTHONWARNINGS": "ignore"}
    server = subprocess.Popen([sys.executable, "-m", __name__, str(address)], env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not address.exists():
            assert server.poll() is None, "the programs' server has ended"
            assert time.monotonic() < deadline, "the programs' server has not started"
            time.sleep(0.02)
        programs = folder / "programs"
        programs.mkdir()
        for program in PROGRAMS:
            write_program(programs / program, python=sys.executable, address=str(address))
        yield programs
    finally:
        server.terminate()
        server.wait(10)


def write_program(file: Path, *, python: str, address: str) -> None:
    """Write a program of the file's name that asks the server at that address."""
    file.write_text(_CLIENT.format(python=python, address=address, program=file.name))
    file.chmod(0o755)


def _serve(address: Path) -> None:
    import dagster._cli  # noqa: PLC0415, F401
    import dagster_dg_cli.cli  # noqa: PLC0415, F401

    import tamarin_dagster.definitions  # noqa: PLC0415
    import tamarin_dagster.operations.doctor.examination  # noqa: PLC0415
    import tamarin_dagster.orchestration.s3_resource  # noqa: PLC0415
    import tamarin_dagster.recordstore.loading  # noqa: PLC0415
    from tamarin_dagster.cli.app import load_commands  # noqa: PLC0415

    load_commands()
    tamarin_dagster.recordstore.loading.compile_all()
    listener = socket.socket(socket.AF_UNIX)
    ready = address.with_suffix(".new")
    listener.bind(str(ready))
    listener.listen()
    ready.rename(address)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _, streams, _, _ = socket.recv_fds(connection, 1, 3)
            with connection.makefile("rb") as asked:
                call = json.load(asked)
            worker = os.fork()
            if worker == 0:
                connection.close()
                _run(call, streams)
            for stream in streams:
                os.close(stream)
            connection.sendall(b"%d" % os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))
            os._exit(0)
        connection.close()


def _run(call: dict, streams: list[int]) -> None:
    """Run the program, and end this process like an interpreter."""
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    os.environ.clear()
    os.environ.update(call["environment"])
    os.chdir(call["folder"])
    program, arguments = call["program"], call["arguments"]
    sys.argv = [program, *arguments]
    status = 0
    try:
        _main(program, arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:  # noqa: BLE001 - as an interpreter does
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _main(program: str, arguments: list[str]) -> None:
    if program == "tamarin-dagster":
        from tamarin_dagster.cli import main  # noqa: PLC0415

        main()
    elif program == "dagster":
        from dagster._cli import main  # noqa: PLC0415

        main()
    elif program == "dg":
        from dagster_dg_cli.cli import main  # noqa: PLC0415

        main()
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
