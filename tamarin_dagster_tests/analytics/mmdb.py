"""Write small MMDB files by the specification of MaxMind DB (2.0): 32-bit records, IPv6 or IPv4."""

import ipaddress
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BUILT = 1_772_000_000  # 2026-02-25 06:13:20 UTC


class _Short(int):
    """An unsigned number of 16 bits, which the metadata requires."""

    kind = 5


class _Long(int):
    """One of 64 bits."""

    kind = 9


def write_mmdb(
    path: Path,
    networks: Mapping[str, Mapping[str, Any]],
    *,
    database_type: str = "GeoLite2-Country",
    ip_version: int = 6,
    built: int = _BUILT,
) -> Path:
    """Write a file with these records for these networks; the format puts IPv4 below ::/96."""
    tree: list[list[int | None]] = [[None, None]]
    data = b""
    offsets = []
    for cidr, record in networks.items():
        _place(tree, _bits(cidr, ip_version), len(offsets))
        offsets.append(len(data))
        data += _encoded(record)

    def pointer(child: int | None) -> int:
        """A node's number, the number of nodes for nothing, or where the data are after the tree and 16 zeros."""
        if child is None:
            return len(tree)
        return child if child >= 0 else len(tree) + 16 + offsets[-child - 1]

    nodes = b"".join(struct.pack(">II", *map(pointer, node)) for node in tree)
    metadata = {
        "binary_format_major_version": _Short(2),
        "binary_format_minor_version": _Short(0),
        "build_epoch": _Long(built),
        "database_type": database_type,
        "description": {"en": "for tests"},
        "ip_version": _Short(ip_version),
        "languages": ["en"],
        "node_count": len(tree),
        "record_size": _Short(32),
    }
    path.write_bytes(nodes + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + _encoded(metadata))
    return path


def _bits(cidr: str, ip_version: int) -> str:
    network = ipaddress.ip_network(cidr)
    bits = f"{int(network.network_address):0{network.max_prefixlen}b}"[: network.prefixlen]
    return "0" * 96 + bits if network.version == 4 and ip_version == 6 else bits


def _place(tree: list[list[int | None]], bits: str, record: int) -> None:
    node = 0
    for bit in map(int, bits[:-1]):
        following = tree[node][bit]
        if following is None:
            tree.append([None, None])
            following = tree[node][bit] = len(tree) - 1
        node = following
    tree[node][int(bits[-1])] = -record - 1


def _encoded(value: Any) -> bytes:
    if isinstance(value, str):
        data = value.encode()
        return _control(2, len(data)) + data
    if isinstance(value, int):
        data = value.to_bytes((value.bit_length() + 7) // 8, "big")
        return _control(getattr(value, "kind", 6), len(data)) + data
    if isinstance(value, Mapping):
        return _control(7, len(value)) + b"".join(_encoded(k) + _encoded(v) for k, v in value.items())
    return _control(11, len(value)) + b"".join(map(_encoded, value))


def _control(kind: int, size: int) -> bytes:
    """Return the type in three bits, or in a byte of its own if it is above seven; sizes up to 284."""
    first = (kind if kind <= 7 else 0) << 5 | min(size, 29)
    return bytes([first]) + (bytes([kind - 7]) if kind > 7 else b"") + (bytes([size - 29]) if size >= 29 else b"")
