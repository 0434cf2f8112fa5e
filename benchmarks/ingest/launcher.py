"""Starts a program from a small process: `python -m benchmarks.ingest.launcher PROGRAM ...` prints what it took.

Linux counts the peak memory of a process from that of its starter on, and a measurement has more in memory than a pull
that finds nothing to load. So nothing is imported here that is not needed.
"""

import json
import os
import subprocess
import sys
import time


def main() -> None:
    """Runs the program to its end; what it says goes to standard error."""
    started = time.perf_counter()
    process = subprocess.Popen(sys.argv[1:], stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    taken = {
        "status": os.waitstatus_to_exitcode(status),
        "seconds": time.perf_counter() - started,
        "user_seconds": usage.ru_utime,
        "system_seconds": usage.ru_stime,
        # Linux counts KiB, macOS bytes
        "peak_mib": usage.ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024),
    }
    print(json.dumps(taken))


if __name__ == "__main__":
    main()
