import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

from tamarin_dagster_tests.docs.forking import write_program
from tamarin_dagster_tests.folders import make_short_folder


def test_a_program_starts_where_the_path_of_python_has_a_blank() -> None:
    """A line with #! ends at the first blank: 20 tests failed in such a folder."""
    folder = make_short_folder()
    python = folder / "a folder with blanks" / "python"
    python.parent.mkdir()
    python.symlink_to(Path(sys.executable).resolve())
    write_program(program := folder / "dagster", python=str(python), address=str(folder / "socket"))
    calls = []

    def answer() -> None:
        connection, _ = listener.accept()
        _, fds, _, _ = socket.recv_fds(connection, 1, 3)
        calls.append(json.loads(b"".join(iter(lambda: connection.recv(65536), b""))))
        connection.sendall(b"7")
        connection.close()
        for each in fds:
            os.close(each)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen()
        server = threading.Thread(target=answer, daemon=True)
        server.start()
        done = subprocess.run([program, "definitions", "a b"], capture_output=True, text=True, timeout=60, check=False)
        server.join(10)
    shutil.rmtree(folder)

    assert (done.returncode, done.stderr) == (7, "")
    assert [(call["program"], call["arguments"]) for call in calls] == [("dagster", ["definitions", "a b"])]
