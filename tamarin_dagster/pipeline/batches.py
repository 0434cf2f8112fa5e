"""Cut a stream of log keys into batches that fit into memory."""

from collections.abc import Callable, Iterable, Iterator

from tamarin_dagster.logkey import LogKey


def make_batches(
    keys: Iterable[LogKey], max_bytes: int, max_keys: int, weigh: Callable[[LogKey], int]
) -> Iterator[list[LogKey]]:
    """Yield log keys in batches of at most `max_bytes`, by `weigh`, and `max_keys`; a larger log key goes alone."""
    batch: list[LogKey] = []
    size = 0
    for key in keys:
        weight = weigh(key)
        if weight > max_bytes:
            yield [key]
            continue
        if batch and (size + weight > max_bytes or len(batch) == max_keys):
            yield batch
            batch, size = [], 0
        batch.append(key)
        size += weight
    if batch:
        yield batch
