"""Start a program from a small process: `python -m benchmarks.ingest.launcher PROGRAM ...` prints its resource usage.

On Linux, the peak memory of a process is at least that of the process that started it, and a benchmark needs more
memory than a pull that finds nothing to load. So this module imports only what it needs.
"""

import json
import os
import subprocess
import sys
import time


def main() -> None:
    """Run the program to its end, with its output on standard error."""
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
