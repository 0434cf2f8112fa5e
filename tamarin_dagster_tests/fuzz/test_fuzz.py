"""The checks of fuzzing for a few seconds; `make fuzz` runs them longer."""

import importlib.util
import random
import re
import subprocess
import sys
import time

import pytest

from tamarin_dagster_tests.fuzz.seeds import dictionary, seeds
from tamarin_dagster_tests.logformat.invariants import check
from tamarin_dagster_tests.logformat.lines_written import WORDS

HARNESS = [sys.executable, "-m", "tamarin_dagster_tests.fuzz.fuzz_parser"]
RANDOM_SECONDS = 1
GUIDED_SECONDS = 10


def mutated(body: bytes, chance: random.Random) -> bytes:
    """The bytes with some of them overwritten, cut out, doubled, or with words put in."""
    for _ in range(chance.choice([1, 1, 2, 5])):
        start = chance.randint(0, len(body))
        end = start + chance.choice([0, 1, 1, 10, 200])
        middle = chance.choice(
            [
                b"",
                chance.randbytes(1),
                chance.choice(WORDS).encode(),
                body[start:end] * 2,
                chance.choice(WORDS).encode(),
            ]
        )
        body = body[:start] + middle + body[end:]
    return body


@pytest.mark.parametrize("seed", seeds())
def test_what_fuzzing_begins_with_is_read_alike_and_whole(seed):
    check([seed])


def test_mutations_are_read_alike_and_whole():
    number = random.randrange(2**32)
    chance, bodies, end = random.Random(number), seeds(), time.monotonic() + RANDOM_SECONDS
    while time.monotonic() < end:
        body = mutated(chance.choice(bodies), chance)
        try:
            check([body])
        except Exception as error:
            error.add_note(f"by random.Random({number}): {body!r}")
            raise


@pytest.mark.slow
def test_the_parser_is_the_same_in_plain_python():
    """Without a compiler (NUMBA_DISABLE_JIT=1), and with no number that is too big for its type."""
    done = subprocess.run([*HARNESS, "--seconds", "0"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="atheris is not installed: make fuzz installs it")
def test_fuzzing_finds_nothing_in_some_seconds(tmp_path):
    done = subprocess.run(
        [*HARNESS, "--seconds", str(GUIDED_SECONDS), "--findings", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    executions = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    assert executions is not None
    assert int(executions[1]) > len(seeds())
    assert not list(tmp_path.iterdir())


def test_the_dictionary_holds_each_word():
    entries = re.findall(r'^"((?:\\x[0-9a-f]{2})+)"$', dictionary(), re.MULTILINE)
    assert [bytes.fromhex(entry.replace(r"\x", "")).decode() for entry in entries] == WORDS
