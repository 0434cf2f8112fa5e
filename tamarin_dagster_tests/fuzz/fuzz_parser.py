"""Fuzzing of the parser, guided by coverage: `make fuzz SECONDS=300`.

    .venv/bin/python -m tamarin_dagster_tests.fuzz.fuzz_parser [--seconds 60] [--findings FOLDER]

Bytes are mutated and parsed; those that reach code which none reached before are mutated further. Each time it must
hold that nothing is lost and that both readers agree (see `logformat.invariants`). What is compiled otherwise runs as
plain Python here, which can be watched, and in which numbers too big for their type are errors.

Bytes for which something does not hold end it, with an exit status other than 0, and are kept as a file in FOLDER.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
import warnings
from pathlib import Path

PACKAGE = "tamarin_dagster"
LONGEST_INPUT = 4096
"""In bytes: some lines. Longer inputs reach no other code, and take longer."""


def main() -> None:
    """Fuzzes as long as the options say; for 0 seconds only what fuzzing begins with is read, without atheris."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="%(default)s, if not given")
    parser.add_argument("--findings", type=Path, help="where to keep what fails; else a new temporary folder")
    options = parser.parse_args()
    os.environ["NUMBA_DISABLE_JIT"] = "1"  # before numba is imported
    if not options.seconds:
        _read_seeds()
        return
    findings = options.findings or Path(tempfile.mkdtemp(prefix="tamarin-fuzz-findings-"))
    findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tamarin-fuzz-") as folder:
        # libFuzzer ends its process at once, and would leave the folder
        process = multiprocessing.get_context("spawn").Process(target=_fuzz, args=(options.seconds, folder, findings))
        process.start()
        process.join()
    if not any(findings.iterdir()) and not options.findings:
        findings.rmdir()
    sys.exit(process.exitcode)


def _read_seeds() -> None:
    from tamarin_dagster_tests.fuzz.seeds import seeds
    from tamarin_dagster_tests.logformat.invariants import check

    warnings.simplefilter("error", RuntimeWarning)
    for seed in seeds():
        check([seed])


def _fuzz(seconds: int, folder: str, findings: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=[PACKAGE]):
        from tamarin_dagster_tests.fuzz.seeds import dictionary, seeds
        from tamarin_dagster_tests.logformat.invariants import check

    def check_one(data: bytes) -> None:
        check([data])

    warnings.simplefilter("error", RuntimeWarning)
    corpus, words = Path(folder, "corpus"), Path(folder, "words")
    corpus.mkdir()
    for number, seed in enumerate(seeds()):
        (corpus / f"{number:03}").write_bytes(seed)
    words.write_text(dictionary())
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST_INPUT}",
        f"-dict={words}",
        f"-artifact_prefix={findings}{os.sep}",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], check_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
