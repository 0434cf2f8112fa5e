"""Turn the patterns of the field table into automata: tables that a compiled loop walks, one step for each byte.

Only the syntax of those patterns is supported: characters, classes, groups, alternatives and repeats. A test compares
each automaton with `re`.
"""

import re
import re._constants as ops  # type: ignore[import-not-found]
import re._parser as syntax  # type: ignore[import-not-found]
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Automaton = npt.NDArray[np.uint16]
"""One row for each state, with the next state for each byte. 0 is the dead end, 1 the start; column 256 says whether a
text may end in the state.
"""

START = 1
ENDS_HERE = 256
MAX_STATES = 1024
"""A pattern with more states is a mistake: each takes half a KiB of the table."""

# A pattern is one of: a set of bytes; "then", a sequence of parts; "or", alternative parts; "star", a repeated part.
# "or" without parts matches nothing, "then" without parts matches the empty text.
_Node = tuple[Any, ...]
_NOTHING: _Node = ("or", frozenset())
_EMPTY: _Node = ("then",)


@cache
def automaton(pattern: str) -> Automaton:
    """Return the automaton of the texts (as UTF-8) that the pattern matches as a whole, by Brzozowski's derivatives.

    Raises:
        ValueError: the pattern uses unsupported syntax.
    """
    parsed = syntax.parse(pattern)
    if not pattern.isascii() or parsed.state.flags & ~re.UNICODE:
        raise ValueError(f"a pattern of the field table may use neither flags nor non-ASCII characters: {pattern}")
    start = _node(parsed)
    alike = _alike_bytes(start)
    states = {_NOTHING: 0, start: START}
    rows: list[list[int]] = []
    waiting = list(states)
    for state in waiting:  # grows during the loop
        nodes = {byte: _after(state, byte) for byte in set(alike)}
        for node in nodes.values():
            if node not in states:
                states[node] = len(states)
                waiting.append(node)
        rows.append([*(states[nodes[byte]] for byte in alike), int(_may_end(state))])
        if len(rows) > MAX_STATES:
            raise ValueError(f"too many states: {pattern}")
    return np.array(rows, np.uint16)


@cache
def difference(pattern: str, excluded: str) -> Automaton:
    """Return the automaton of the texts that `pattern` matches as a whole and `excluded` does not. Raises like
    `automaton`.
    """
    wanted, unwanted = automaton(pattern), automaton(excluded)
    # A pair of states is one number. After the dead end of `pattern`, the state of `excluded` does not matter.
    states = {0: 0, START * MAX_STATES + START: START}
    rows: list[npt.NDArray[np.uint16]] = []
    waiting = list(states)
    for state in waiting:  # grows during the loop
        here, there = divmod(state, MAX_STATES)
        after = wanted[here, :256].astype(np.int64)
        distinct, places = np.unique(
            np.where(after == 0, 0, after * MAX_STATES + unwanted[there, :256]), return_inverse=True
        )
        for target in distinct.tolist():
            if target not in states:
                states[target] = len(states)
                waiting.append(target)
        numbers = np.array([states[target] for target in distinct.tolist()], np.uint16)
        may_end = wanted[here, ENDS_HERE] == 1 and unwanted[there, ENDS_HERE] == 0
        rows.append(np.append(numbers[places], np.uint16(may_end)))
    return np.stack(rows)


def _alike_bytes(node: _Node) -> list[int]:
    """For each byte, return the first byte that the pattern's classes do not distinguish from it."""
    classes: set[frozenset[int]] = set()

    def collect(part: _Node) -> None:
        if part[0] == "bytes":
            classes.add(part[1])
        else:
            for inner in part[1] if part[0] == "or" else part[1:]:
                collect(inner)

    collect(node)
    first: dict[tuple[bool, ...], int] = {}
    return [first.setdefault(tuple(byte in members for members in classes), byte) for byte in range(256)]


def _node(parsed: Iterable[tuple[Any, Any]]) -> _Node:
    """Convert Python's syntax tree of a pattern to one of our nodes."""
    return _then([_node_of(operation, argument) for operation, argument in parsed])


def _node_of(operation: Any, argument: Any) -> _Node:  # noqa: PLR0911 - one for each operation
    if operation is ops.LITERAL:
        return ("bytes", frozenset([argument]))
    if operation is ops.ANY:
        return ("bytes", frozenset(range(256)) - {0x0A})
    if operation is ops.IN:
        return ("bytes", _class(argument))
    if operation is ops.NOT_LITERAL:
        return ("bytes", frozenset(range(256)) - {argument})
    if operation is ops.SUBPATTERN and not any(argument[1:3]):  # flags that are set and cleared
        return _node(argument[3])
    if operation is ops.BRANCH:
        return _or(_node(branch) for branch in argument[1])
    if operation is ops.MAX_REPEAT:
        least, most, repeated = argument
        part = _node(repeated)
        if most is ops.MAXREPEAT:
            return _then([part] * least + [("star", part)])
        rest = _EMPTY
        for _ in range(most - least):
            rest = _or([_EMPTY, _then([part, rest])])
        return _then([part] * least + [rest])
    raise ValueError(f"a pattern of the field table may not use {operation}")


def _class(members: Iterable[tuple[Any, Any]]) -> frozenset[int]:
    found: set[int] = set()
    negated = False
    for kind, argument in members:
        if kind is ops.NEGATE:
            negated = True
        elif kind is ops.LITERAL:
            found.add(argument)
        elif kind is ops.RANGE:
            found.update(range(argument[0], argument[1] + 1))
        else:
            raise ValueError(f"a class of the field table may not use {kind}")
    return frozenset(range(256)) - found if negated else frozenset(found)


def _then(parts: Iterable[_Node]) -> _Node:
    flat: list[_Node] = []
    for part in parts:
        if part == _NOTHING:
            return _NOTHING
        flat.extend(part[1:] if part[0] == "then" else [part])
    return flat[0] if len(flat) == 1 else ("then", *flat)


def _or(parts: Iterable[_Node]) -> _Node:
    flat: set[_Node] = set()
    for part in parts:
        flat.update(part[1] if part[0] == "or" else [part])
    return next(iter(flat)) if len(flat) == 1 else ("or", frozenset(flat))


def _may_end(node: _Node) -> bool:
    """Return whether the empty text matches."""
    kind = node[0]
    if kind == "then":
        return all(map(_may_end, node[1:]))
    if kind == "or":
        return any(map(_may_end, node[1]))
    return bool(kind == "star")


def _after(node: _Node, byte: int) -> _Node:
    """Return what may follow the byte: the derivative."""
    kind = node[0]
    if kind == "bytes":
        return _EMPTY if byte in node[1] else _NOTHING
    if kind == "star":
        return _then([_after(node[1], byte), node])
    if kind == "or":
        return _or(_after(part, byte) for part in node[1])
    if node == _EMPTY:
        return _NOTHING
    first, rest = node[1], _then(node[2:])
    found = _then([_after(first, byte), rest])
    return _or([found, _after(rest, byte)]) if _may_end(first) else found
