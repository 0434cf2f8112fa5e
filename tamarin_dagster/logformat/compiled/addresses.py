"""Convert the text of an IP address to its bytes, in compiled loops."""

from tamarin_dagster.logformat.compiled.compiling import Octets, compiled, signed

IPV4_BYTES = 4
IPV6_BYTES = 16
_MAX_GROUPS = 8

_DOT, _COLON, _0, _9, _A, _F, _CASE = b".:09af\x20"


@compiled
def pack_address(octets: Octets, start: int, end: int, packed: Octets) -> int:
    """Write the address at `start` to `packed` (16 bytes of room), in network order; both are pointers.

    Returns its length, `IPV4_BYTES` or `IPV6_BYTES`; 0 if the text is not an address. Accepts what
    `ipaddress.ip_address` accepts, except zone IDs, which Postgres' inet does not have.
    """
    at = start
    while at < end and octets[at] != _COLON:
        at += 1
    if at < end:
        return IPV6_BYTES if _pack_ipv6(octets, start, end, packed) else 0
    return IPV4_BYTES if _pack_ipv4(octets, start, end, packed, 0) else 0


@compiled
def is_ipv4_mapped(packed: Octets) -> bool:
    """Return whether the 16 bytes are an IPv4-mapped address, `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2)."""
    mapped = packed[10] == 0xFF and packed[11] == 0xFF
    for index in range(10):
        mapped &= packed[index] == 0
    return bool(mapped)


@compiled
def _pack_ipv4(octets: Octets, start: int, end: int, packed: Octets, first: int) -> bool:
    at = start
    for part in range(IPV4_BYTES):
        if part:
            if at >= end or octets[at] != _DOT:
                return False
            at += 1
        digits, value = at, 0
        while at < end and at < digits + 3 and _0 <= octets[at] <= _9:
            value = 10 * value + signed(octets[at]) - _0
            at += 1
        if at == digits or value > 255 or (octets[digits] == _0 and at > digits + 1):
            return False
        packed[first + part] = value
    return bool(at == end)


@compiled
def _pack_ipv6(octets: Octets, start: int, end: int, packed: Octets) -> bool:
    for index in range(IPV6_BYTES):
        packed[index] = 0
    group, gap, at = 0, -1, start
    if end - start >= 2 and octets[at] == _COLON and octets[at + 1] == _COLON:
        gap, at = 0, at + 2
    while at < end:
        digits, value = at, 0
        while at < end and at < digits + 4 and _hex_digit(signed(octets[at])) >= 0:
            value = 16 * value + _hex_digit(signed(octets[at]))
            at += 1
        if at == digits or group == _MAX_GROUPS:
            return False
        if at < end and octets[at] == _DOT:
            if group > _MAX_GROUPS - 2 or not _pack_ipv4(octets, digits, end, packed, 2 * group):
                return False
            group, at = group + 2, end
            break
        packed[2 * group], packed[2 * group + 1] = value >> 8, value & 0xFF
        group += 1
        if at == end:
            break
        if octets[at] != _COLON:
            return False
        at += 1
        if at == end:
            return False
        if octets[at] == _COLON:
            if gap >= 0:
                return False
            gap, at = group, at + 1
    if gap < 0:
        return group == _MAX_GROUPS
    if group == _MAX_GROUPS:
        return False
    # Move the groups after the gap to the end.
    after_gap = 2 * (group - gap)
    for back in range(1, after_gap + 1):
        packed[IPV6_BYTES - back] = packed[2 * group - back]
    for index in range(2 * gap, IPV6_BYTES - after_gap):
        packed[index] = 0
    return True


@compiled
def _hex_digit(octet: int) -> int:
    if _0 <= octet <= _9:
        return octet - _0
    lower = octet | _CASE
    return lower - _A + 10 if _A <= lower <= _F else -1
