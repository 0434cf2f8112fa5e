"""What traffic is told apart by, and the parent of each value: where a value without a row of its own is counted."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tamarin_dagster.traffic.cutting import cut
from tamarin_dagster.traffic.measures import IPV4_LEAD, IPV6_LEAD, fixed_octets, from_octets

_IPV4_PARENT_BITS, _IPV6_PARENT_BITS = 24, 48


@dataclass(frozen=True, slots=True)
class Dimension:
    """Something that traffic is told apart by.

    Attributes:
        name: the column of the record, and of `traffic_daily_by_…`.
        type: of its values. Addresses are as Postgres sends them, so that networks are values too.
        parents: returns the parent of each value (none is null): a prefix, network, role, host or product.
        roots: returns the parent of each parent, of which there are one or two.
    """

    name: str
    type: pa.DataType
    parents: Callable[[pa.Array], pa.Array]
    roots: Callable[[pa.Array], pa.Array]


def _prefixes(keys: pa.Array) -> pa.Array:
    """Return each key up to its first slash: 'films/' of 'films/a.mp4', '' of 'a.mp4'."""
    return pc.if_else(pc.match_substring(keys, "/"), cut(keys, b"/", keeps_mark=True), "")


def _hosts(referrers: pa.Array) -> pa.Array:
    """Return each referrer up to the slash after its host; '' if it names none."""
    hosts = cut(referrers, b"/", 3)
    return pc.if_else(pc.match_substring(hosts, "://"), pc.binary_join_element_wise(hosts, "/", ""), "")


def _products(agents: pa.Array) -> pa.Array:
    """Return the first product of each user agent, without its version: 'curl' of 'curl/8.5.0'."""
    return cut(agents, b"/ ")


def _principals(requesters: pa.Array) -> pa.Array:
    """Return the role of each assumed role, the account of any other ARN, and '' of what is no ARN."""
    is_arn = pc.starts_with(requesters, "arn:")
    is_role = pc.and_(is_arn, pc.match_substring(requesters, ":assumed-role/"))
    # Most requesters of a day are of one kind, and cutting is what takes the time.
    named = _cut_where(requesters, is_role, b"/", 2)
    named = _cut_where(named, pc.and_not(is_arn, is_role), b":", 5)
    return named if pc.all(is_arn).as_py() else pc.if_else(is_arn, named, "")


def _cut_where(texts: pa.Array, chosen: pa.Array, mark: bytes, nth: int) -> pa.Array:
    """Return the texts, the chosen ones up to the nth mark."""
    if not pc.any(chosen).as_py():
        return texts
    if pc.all(chosen).as_py():
        return cut(texts, mark, nth)
    return pc.replace_with_mask(texts, chosen, cut(texts.filter(chosen), mark, nth))


def _networks(addresses: pa.Array) -> pa.Array:
    """Return the /24 of each IPv4 address and the /48 of each IPv6 address."""
    return _masked(addresses, _IPV4_PARENT_BITS, _IPV6_PARENT_BITS)


def _families(networks: pa.Array) -> pa.Array:
    """Return 0.0.0.0/0 for each IPv4 network, ::/0 for each IPv6 network."""
    return _masked(networks, 0, 0)


def _masked(addresses: pa.Array, ipv4_bits: int, ipv6_bits: int) -> pa.Array:
    lengths = np.asarray(pc.binary_length(addresses))
    groups, places = [], []
    for lead, octets, bits in ((IPV4_LEAD, 4, ipv4_bits), (IPV6_LEAD, 16, ipv6_bits)):
        chosen = np.flatnonzero(lengths == len(lead) + octets)
        rows = fixed_octets(addresses.take(pa.array(chosen)), len(lead) + octets).copy()
        rows[:, 1] = bits
        rows[:, len(lead) + bits // 8 :] = 0
        groups.append(from_octets(rows))
        places.append(chosen)
    return pa.concat_arrays(groups).take(pa.array(np.argsort(np.concatenate(places))))


def _nothing(values: pa.Array) -> pa.Array:
    """Return '' for each value."""
    return pa.repeat(pa.scalar(""), len(values))


DIMENSIONS = (
    Dimension("key", pa.string(), _prefixes, _nothing),
    Dimension("remote_ip", pa.binary(), _networks, _families),
    Dimension("requester", pa.string(), _principals, _nothing),
    Dimension("referrer", pa.string(), _hosts, _nothing),
    Dimension("user_agent", pa.string(), _products, _nothing),
)
