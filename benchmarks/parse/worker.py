"""Run one peer in its own process: `python -m benchmarks.parse.worker seconds|answers PEER FILE [OUT]`.

`seconds` prints the CPU time of reading the file, without the interpreter's start and the imports, and the number of
records. `answers` writes a digest of the result for each line to OUT.
"""

import importlib
import json
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.parse.truth import digests

_READERS = {
    "ours": ("ours", "read_logs", "answers"),
    "ours, regex reader": ("ours", "read_by_regex", "regex_answers"),
    "re": ("athena", "read_groups", "answers"),
    "re, typed": ("athena", "read_typed", "typed_answers"),
    "duckdb": ("duck", "read_groups", "answers"),
}
_WARM_UP_LINES = 100
"""Read this before the clock starts, so that one-time work such as compiling is not counted."""


def main() -> None:
    """Run one reader."""
    task, peer, path, *out = sys.argv[1:]
    module_name, read, answers = _READERS[peer]
    module = importlib.import_module(f"benchmarks.parse.{module_name}")
    if task == "answers":
        np.save(out[0], digests(getattr(module, answers)(Path(path))))
        return
    warm_up = Path(path).with_suffix(".warm-up")
    with Path(path).open("rb") as lines:
        warm_up.write_bytes(b"".join(islice(lines, _WARM_UP_LINES)))
    getattr(module, read)(warm_up)
    started = time.process_time()
    records = getattr(module, read)(Path(path))
    print(json.dumps({"seconds": time.process_time() - started, "records": records}))


if __name__ == "__main__":
    main()
