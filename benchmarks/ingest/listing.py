"""Serve the listings of a local S3 endpoint: `python -m benchmarks.ingest.listing FOLDER` prints its port.

It supports GET /<any bucket>?list-type=2 with prefix, start-after, continuation-token and max-keys, without a
delimiter. It lists the folder once, at the start. ETags are the same as those of nginx. It ends when its standard input
ends, that is, when the process that started it ends.
"""

import os
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from xml.sax.saxutils import escape

LOOPBACK = "127.0.0.1"
_PAGE_KEYS = 1_000
_BEHIND_ALL = "\U0010ffff"
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'


class Listing:
    """The objects of a bucket in the order of their names, as XML."""

    def __init__(self, folder: Path) -> None:
        found = sorted(_files(folder, ""))
        self._names = [name for name, _ in found]
        self._contents = [_content(name, stat) for name, stat in found]

    def page(self, query: Mapping[str, str]) -> bytes:
        """Return one page of ListObjectsV2."""
        prefix = query.get("prefix", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        begin = max(bisect_left(self._names, prefix), bisect_right(self._names, after))
        end = bisect_left(self._names, prefix + _BEHIND_ALL)
        last = max(begin, min(end, begin + int(query.get("max-keys", _PAGE_KEYS))))
        parts = [_HEAD, f"<KeyCount>{last - begin}</KeyCount>"]
        if last < end:
            token = escape(self._names[last - 1])
            parts.append(f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>")
        else:
            parts.append("<IsTruncated>false</IsTruncated>")
        return "".join([*parts, *self._contents[begin:last], "</ListBucketResult>"]).encode()


def _files(folder: Path, base: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files(Path(entry.path), f"{base}{entry.name}/")
            else:
                yield base + entry.name, entry.stat()


def _content(name: str, stat: os.stat_result) -> str:
    modified = datetime.fromtimestamp(int(stat.st_mtime), UTC)
    return (
        f"<Contents><Key>{escape(name)}</Key><LastModified>{modified:%Y-%m-%dT%H:%M:%S}.000Z</LastModified>"
        f"<ETag>&quot;{int(stat.st_mtime):x}-{stat.st_size:x}&quot;</ETag><Size>{stat.st_size}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are one write, because a second write would wait for the acknowledgement of the first.
    wbufsize = -1

    def __init__(self, listing: Listing, *given: Any) -> None:
        self._listing = listing
        super().__init__(*given)

    def do_GET(self) -> None:
        body = self._listing.page(dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True)))
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve the folder."""
    listing = Listing(Path(sys.argv[1]))
    server = ThreadingHTTPServer((LOOPBACK, 0), partial(_Handler, listing))
    Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
