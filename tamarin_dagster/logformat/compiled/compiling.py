"""Compile the loops over bytes with numba, at their first use, and keep the machine code on disk.

Compiled functions pass pointers, not arrays: numba counts the references to an array that is passed, and checks for
negative indexes, which together took longer than the reading. A pointer has no length: a function that indexes it must
stay within the length that the array's owner stated. In plain Python (`NUMBA_DISABLE_JIT=1`) pointers are arrays.
"""

import ctypes
import logging
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils, event
from numba.extending import intrinsic, overload

from tamarin_dagster.logformat.machine_code import machine_code_folder

F = TypeVar("F", bound=Callable[..., Any])
Octets = npt.NDArray[np.uint8]

_log = logging.getLogger(__name__)

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
_INDEX = numba.intp
_MAX_BYTES = 2**46
"""More items than any buffer has."""
_config: Any = numba.config


def compiled(function: F) -> F:
    """Return the function as machine code that releases Python's lock while it runs.

    The machine code is kept on disk. If nothing can be written (a read-only image), each process compiles again, which
    takes half a minute.
    """
    folder = machine_code_folder()
    if folder is None:
        return numba.njit(function, **_OPTIONS)  # type: ignore[no-any-return]
    before = _config.CACHE_DIR
    _config.CACHE_DIR = str(folder)
    try:
        return numba.njit(function, cache=True, **_OPTIONS)  # type: ignore[no-any-return]
    finally:
        _config.CACHE_DIR = before


class _Announcer(event.Listener):
    """Log, once in a process, that the parser is being compiled; otherwise the first run would be silent for half a
    minute.
    """

    has_spoken = False

    def on_start(self, event: Any) -> None:
        """Handle numba's event that the machine code of a function is not on disk."""
        if self.has_spoken or not event.data["dispatcher"].py_func.__module__.startswith("tamarin_dagster."):
            return
        self.has_spoken = True
        folder = machine_code_folder()
        kept = (
            f"only now; the machine code is kept in {folder}"
            if folder
            else ("in each process, because there is no folder to keep the machine code in")
        )
        # A warning, because both the command line and Dagster show warnings.
        _log.warning("Compiling the parser to machine code, which takes about half a minute, %s", kept)

    def on_end(self, event: Any) -> None:
        """Handle numba's event that the function is compiled."""


event.register("numba:compile", _Announcer())  # type: ignore[no-untyped-call]


def inlined(function: F) -> F:
    """Compile the function into its callers: for steps so small that a call would cost more."""
    return numba.njit(function, forceinline=True, **_OPTIONS)  # type: ignore[no-any-return]


@inlined
def signed(octet: int) -> int:
    """Return a byte as a number to calculate with: numba would keep it unsigned, and numpy in eight bits."""
    return np.int64(octet)  # type: ignore[return-value]


def pointer(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a pointer to the array's first item, whatever its shape (C order), to be indexed like a flat array."""
    return array.reshape(-1)


def moved(place: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """Return the pointer moved by `count` items."""
    return place[count:]


def copy_octets(target: Octets, at: int, source: Octets, start: int, count: int) -> None:
    """Do `target[at : at + count] = source[start : start + count]` with pointers; in compiled code by memcpy."""
    target[at : at + count] = source[start : start + count]


def eight_octets(source: Octets, at: int) -> np.uint64:
    """Return the eight bytes at `at` of a pointer as one number; in compiled code by one load."""
    return np.frombuffer(source[at : at + 8].tobytes(), np.uint64)[0]  # type: ignore[no-any-return]


def pointer_to(address: int) -> Octets:
    """Return a pointer to an address, such as that of an Arrow buffer, which the caller keeps alive."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * _MAX_BYTES).from_address(address))


def integer_at(address: int, width: int) -> int:
    """Return the integer of 2, 4 or 8 bytes at an address; in compiled code by one load."""
    return int.from_bytes(pointer_to(address)[:width].tobytes(), sys.byteorder, signed=True)


# The numba side: an intrinsic gets types, and returns a signature and a function that writes the code.


@intrinsic
def _data(_typing: Any, array: Any) -> tuple[Any, Any]:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return numba.types.CPointer(array.dtype)(array), generate  # type: ignore[no-untyped-call]


@intrinsic
def _advance(_typing: Any, place: Any, _count: Any) -> tuple[Any, Any]:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.gep(arguments[0], [arguments[1]])

    return place(place, _INDEX), generate


@intrinsic
def _memcpy(_typing: Any, target: Any, _at: Any, source: Any, _start: Any, _count: Any) -> tuple[Any, Any]:
    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        target, at, source, start, count = arguments
        places = builder.gep(target, [at]), builder.gep(source, [start])
        cgutils.raw_memcpy(builder, *places, count, 1)  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    return numba.void(target, _INDEX, source, _INDEX, _INDEX), generate


@intrinsic
def _pointer_to(_typing: Any, _address: Any) -> tuple[Any, Any]:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return numba.types.CPointer(numba.uint8)(_INDEX), generate  # type: ignore[no-untyped-call]


def _loader(bits: int) -> Any:
    """Return the intrinsic that loads a signed integer of this many bits from an address."""

    @intrinsic
    def load(_typing: Any, _address: Any) -> tuple[Any, Any]:
        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            place = builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer())
            return builder.sext(builder.load(place, align=1), ir.IntType(64)) if bits < 64 else builder.load(place)

        return numba.int64(_INDEX), generate

    return load


_load_2, _load_4, _load_8 = _loader(16), _loader(32), _loader(64)


@intrinsic
def _load(_typing: Any, source: Any, _at: Any) -> tuple[Any, Any]:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        place = builder.bitcast(builder.gep(arguments[0], [arguments[1]]), ir.IntType(64).as_pointer())
        return builder.load(place, align=1)

    return numba.uint64(source, _INDEX), generate


# ruff: noqa: ARG001
@overload(pointer, strict=False)
def _pointer(array: Any) -> Any:
    return lambda array: _data(array)  # type: ignore[call-arg]  # noqa: PLW0108


@overload(moved, strict=False)
def _moved(place: Any, count: Any) -> Any:
    return lambda place, count: _advance(place, count)  # type: ignore[call-arg]  # noqa: PLW0108


@overload(copy_octets, strict=False)
def _copy_octets(target: Any, at: Any, source: Any, start: Any, count: Any) -> Any:
    return lambda target, at, source, start, count: _memcpy(target, at, source, start, count)  # type: ignore[call-arg]  # noqa: PLW0108


@overload(eight_octets, strict=False)
def _eight_octets(source: Any, at: Any) -> Any:
    return lambda source, at: _load(source, at)  # type: ignore[call-arg]  # noqa: PLW0108


@overload(pointer_to, strict=False)
def _pointer_to_address(address: Any) -> Any:
    return lambda address: _pointer_to(address)  # type: ignore[call-arg]  # noqa: PLW0108


@inlined
def _integer_at(address: int, width: int) -> int:
    if width == 2:
        return _load_2(address)  # type: ignore[no-any-return]
    return _load_4(address) if width == 4 else _load_8(address)  # type: ignore[no-any-return]


@overload(integer_at, strict=False)
def _integer_at_address(address: Any, width: Any) -> Any:
    return lambda address, width: _integer_at(address, width)  # noqa: PLW0108
