"""When a process loads the machine code."""

import json
import subprocess
import sys

import pytest

from tamarin_dagster.logformat.engine import LOADING_PAYS_BYTES
from tamarin_dagster_tests.lines import line

# Parses bodies of these numbers of lines; prints, for each, whether numba is loaded afterwards, and the records read.
PROGRAM = """
import json, sys
from tamarin_dagster.logformat import parse_logs
said = []
for count in map(int, sys.argv[2:]):
    parsed = parse_logs([sys.argv[1].encode() * count]).redact()
    said.append(["numba" in sys.modules, len(parsed.records), int(parsed.records["bytes_sent"].sum())])
print(json.dumps(said))
"""
LINE = line().decode()
ENOUGH = LOADING_PAYS_BYTES // len(LINE) + 1


def read(*counts: int) -> list[list[object]]:
    command = [sys.executable, "-c", PROGRAM, LINE, *map(str, counts)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("counts", [[10, ENOUGH, 10], [ENOUGH // 2, ENOUGH // 2 + 1, 1]])
def test_machine_code_is_loaded_once_a_process_has_read_a_megabyte_and_changes_no_record(counts):
    said = read(*counts)
    assert [loaded for loaded, _, _ in said] == [False, True, True]
    assert [records for _, records, _ in said] == counts
    assert len({total / records for _, records, total in said}) == 1
