"""Bytes that come in chunks, cut anywhere, as hypothesis strategies."""

from hypothesis import strategies as st


def chunks_of(body: bytes, sizes: list[int]) -> list[bytes]:
    """Return the body in chunks of these sizes, repeated; in one chunk if all sizes are 0."""
    if not any(sizes):
        return [body]
    chunks, start = [], 0
    while start < len(body):
        for size in sizes:
            chunks.append(body[start : start + size])
            start += size
    return chunks


def sizes(most: int) -> st.SearchStrategy[list[int]]:
    """Return sizes of chunks: any, often tiny, some of them 0."""
    return st.lists(st.one_of(st.integers(0, 4), st.integers(0, most)), max_size=6)
