"""A local S3 endpoint that is not a bottleneck: nginx serves the objects from a folder, and forwards listings.

nginx answers GETs of static files like S3: with an ETag, and with 412 if If-Match names another one. It cannot list, so
`GET /<bucket>?list-type=2` goes to our own process (`listing`).
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.ingest.listing import LOOPBACK

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": LOOPBACK,
    "no_proxy": LOOPBACK,
}
"""The endpoint accepts any credentials. A proxy of the shell could not reach this machine's loopback interface."""
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
NO_NGINX = "nginx is not installed, which serves the objects here; on Debian: apt-get install nginx-light"
_READY_SECONDS = 30
_POLL_SECONDS = 0.05

_CONFIGURATION = """\
daemon off;
{account}
worker_processes 2;
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_timeout 600;
  keepalive_requests 1000000000;
  default_type binary/octet-stream;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  proxy_buffers 16 64k;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  upstream listing {{ server {host}:{listing_port}; keepalive 4; }}
  server {{
    listen {host}:{port};
    root {root};
    location = /{bucket} {{ proxy_pass http://listing; }}
    location = /{bucket}/ {{ proxy_pass http://listing; }}
  }}
}}
"""


@contextlib.contextmanager
def endpoint(log_folder: Path) -> Iterator[str]:
    """Yield the URL of an endpoint with one bucket: the present content of the folder, under the folder's name.

    This sets the credentials in the environment.
    """
    if NGINX is None:
        raise SystemExit(NO_NGINX)
    os.environ |= CREDENTIALS
    folder = log_folder.parent / "nginx"
    folder.mkdir(exist_ok=True)
    with _listing(log_folder) as listing_port:
        port = _free_port()
        configuration = folder / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                account="user root;" if os.geteuid() == 0 else "",
                folder=folder,
                host=LOOPBACK,
                port=port,
                listing_port=listing_port,
                root=log_folder.parent,
                bucket=log_folder.name,
            )
        )
        log = folder / "error.log"
        # in a separate session, which ends as a whole; ctrl-C in the terminal is for us
        process = subprocess.Popen(
            [NGINX, "-p", folder, "-c", configuration, "-e", log], stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            _await(port, process, log)
            yield f"http://{LOOPBACK}:{port}"
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def _listing(log_folder: Path) -> Iterator[int]:
    command = [sys.executable, "-m", "benchmarks.ingest.listing", str(log_folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout
        yield int(process.stdout.readline())


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _await(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port)):
            return
        time.sleep(_POLL_SECONDS)
    raise SystemExit(f"nginx does not answer; it says: {log.read_text('utf-8', 'replace') if log.exists() else ''}")
