"""The files of the demo's media site: their keys, sizes and popularity."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from urllib.parse import quote

import numpy as np

from tamarin_dagster.demo.draws import Draws, Ints
from tamarin_dagster.demo.site import DemoSite

KIB = 1024
MIB = 1024 * KIB


class FileKind(IntEnum):
    """How a browser treats a file: whether it is cached, and whether it is read in ranges."""

    ASSET = 0
    IMAGE = 1
    AUDIO = 2
    VIDEO = 3
    SEGMENT = 4
    DOCUMENT = 5
    PLAYLIST = 6


# How many bytes a player requests at once; 0 for files that are read whole.
RANGE_BYTES = {FileKind.AUDIO: 1 * MIB, FileKind.VIDEO: 4 * MIB}


@dataclass(frozen=True)
class SiteFile:
    """One object of the bucket; `size` in bytes."""

    name: str
    kind: FileKind
    size: int

    @property
    def uri(self) -> str:
        """The path that a browser sends, without the leading slash."""
        return quote(self.name, safe="/~()'*!")

    @property
    def logged_key(self) -> str:
        """The key as S3 logs it: the encoded path, encoded once more if it holds a percent sign (`%2520`)."""
        return self.uri.replace("%", "%25")


@dataclass(frozen=True)
class Catalogue:
    """All files, the most popular first, with the columns that the traffic is drawn from."""

    files: tuple[SiteFile, ...]
    sizes: Ints
    range_bytes: Ints
    cacheable: Ints
    zipf_cumulated: Ints
    images: Ints
    alphabetical: Ints


@lru_cache(maxsize=8)
def make_catalogue(site: DemoSite) -> Catalogue:
    """Return the site's catalogue, made once for each process and site."""
    draws = site.draws("catalogue")
    files = list(_files(draws))
    # Every page loads stylesheets and scripts, so they stay first; the popularity of the rest is random.
    assets = [file for file in files if file.kind is FileKind.ASSET]
    others = [file for file in files if file.kind is not FileKind.ASSET]
    order = np.argsort(draws.words(len(others)), kind="stable").tolist()
    ranked = assets + [others[index] for index in order]
    # Zipf's law with exponent 1, in whole numbers; the shift keeps the first file below a tenth of all requests.
    weights = np.array([10_000_000 // (rank + 6) for rank in range(len(ranked))], dtype=np.int64)
    return Catalogue(
        files=tuple(ranked),
        sizes=np.array([file.size for file in ranked], dtype=np.int64),
        range_bytes=np.array([RANGE_BYTES.get(file.kind, 0) for file in ranked], dtype=np.int64),
        cacheable=np.array([file.kind in (FileKind.ASSET, FileKind.IMAGE) for file in ranked], dtype=np.int64),
        zipf_cumulated=np.cumsum(weights),
        images=np.array([i for i, file in enumerate(ranked) if file.kind is FileKind.IMAGE], dtype=np.int64),
        alphabetical=np.array(sorted(range(len(ranked)), key=lambda i: ranked[i].name), dtype=np.int64),
    )


SUBJECTS = (
    "harbour",
    "city-lights",
    "garden",
    "orchestra",
    "northern-sea",
    "railway",
    "market-hall",
    "glacier",
    "old-town",
    "regatta",
    "observatory",
    "vineyard",
    "lighthouse",
    "workshop",
    "river-delta",
    "concert",
    "bakery",
    "archive",
    "meadow",
    "dunes",
)
ASSETS = (
    ("assets/site.css", 48 * KIB),
    ("assets/site.js", 310 * KIB),
    ("assets/logo.svg", 6 * KIB),
    ("favicon.ico", 15 * KIB),
    ("assets/player.js", 190 * KIB),
    ("assets/fonts/sans.woff2", 34 * KIB),
    ("robots.txt", 214),
    ("feeds/podcast.xml", 96 * KIB),
)


def _files(draws: Draws) -> Iterator[SiteFile]:
    yield from (SiteFile(name, FileKind.ASSET, size) for name, size in ASSETS)
    for number, subject in enumerate(SUBJECTS * 30):
        year, month = 2019 + number % 7, 1 + number % 12
        size = 20 * KIB + draws.one_below(900 * KIB)
        yield SiteFile(f"images/{year}/{month:02d}/{subject}-{number:04d}.jpg", FileKind.IMAGE, size)
        yield SiteFile(
            f"images/{year}/{month:02d}/{subject}-{number:04d}-320w.webp", FileKind.IMAGE, 4 * KIB + size // 30
        )
    for number in range(1, 241):
        name = f"podcasts/season-{number // 24 + 1:02d}/episode-{number:03d}.mp3"
        yield SiteFile(name, FileKind.AUDIO, 18 * MIB + draws.one_below(50 * MIB))
    for number, subject in enumerate(SUBJECTS * 5):
        yield SiteFile(f"videos/{subject}-{number:03d}.mp4", FileKind.VIDEO, 40 * MIB + draws.one_below(2_000 * MIB))
        yield SiteFile(
            f"videos/{subject}-{number:03d}/index.m3u8", FileKind.PLAYLIST, 2 * KIB + draws.one_below(9 * KIB)
        )
        for segment in range(6):
            name = f"videos/{subject}-{number:03d}/720p/{segment:05d}.ts"
            yield SiteFile(name, FileKind.SEGMENT, 600 * KIB + draws.one_below(3 * MIB))
    for number, subject in enumerate(SUBJECTS * 3):
        yield SiteFile(
            f"documents/Press kit {subject} ({2020 + number % 6}).pdf",
            FileKind.DOCUMENT,
            300 * KIB + draws.one_below(9 * MIB),
        )
    yield SiteFile("music/Gemütlichkeit – live at 100%.mp3", FileKind.AUDIO, 9_412_557)  # noqa: RUF001 - a dash to encode
    yield SiteFile("videos/full archive 1998-2025.mov", FileKind.VIDEO, 7_340_032_123)  # more than 32 bits hold
