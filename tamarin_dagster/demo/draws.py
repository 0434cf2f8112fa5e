"""Random draws that are the same on every machine.

NumPy guarantees the raw words of a bit generator, but not the streams of its distributions (NEP 19). So all of this is
integer arithmetic on PCG64's raw words, seeded by a SHA-256 of names: no `hash()`, no floats.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

BASE64_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
HEX_LETTERS = b"0123456789ABCDEF"
ID_LETTERS = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Draws:
    """An endless stream of draws, named by any values whose `str` is stable (seed, bucket, hour, purpose)."""

    def __init__(self, *name: object) -> None:
        digest = hashlib.sha256("\x1f".join(str(part) for part in name).encode()).digest()
        self._bits = np.random.PCG64(int.from_bytes(digest, "big"))

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        """Return `count` words of 64 random bits."""
        words: npt.NDArray[np.uint64] = self._bits.random_raw(count)
        return words

    def below(self, limit: int, count: int) -> Ints:
        """Return `count` integers from 0 to `limit` - 1; `limit` is at most 2**31."""
        return ((self.words(count) >> np.uint64(33)) * np.uint64(limit) >> np.uint64(31)).astype(np.int64)

    def one_below(self, limit: int) -> int:
        """Return one integer from 0 to `limit` - 1."""
        return int(self.below(limit, 1)[0])

    def by_weight(self, weights: Sequence[int], count: int) -> Ints:
        """Return `count` indices into `weights`, each with the frequency of its integer weight."""
        return self.by_cumulated(np.cumsum(np.array(weights, dtype=np.int64)), count)

    def by_cumulated(self, cumulated: Ints, count: int) -> Ints:
        """Like `by_weight`, for weights that the caller has accumulated once."""
        found = np.searchsorted(cumulated, self.below(int(cumulated[-1]), count), side="right")
        return found.astype(np.int64)

    def letters(self, alphabet: bytes, width: int, count: int) -> npt.NDArray[np.uint8]:
        """Return `count` rows of `width` letters; the alphabet's length is a power of two, so that all letters are
        equally likely.
        """
        table = np.frombuffer(alphabet, dtype=np.uint8)
        words = self.words((count * width + 7) // 8).astype("<u8")  # the same bytes on a big-endian machine
        raw = words.view(np.uint8)[: count * width] & np.uint8(len(alphabet) - 1)
        rows: npt.NDArray[np.uint8] = table[raw].reshape(count, width)
        return rows


def rows_as_text(rows: npt.NDArray[np.uint8]) -> list[str]:
    """Return each row of ASCII letters as one string."""
    width = rows.shape[1]
    text = rows.tobytes().decode("ascii")
    return [text[start : start + width] for start in range(0, len(text), width)]


def request_ids(draws: Draws, count: int) -> list[str]:
    """Return request IDs as S3 writes them: 16 letters and digits."""
    return rows_as_text(draws.letters(ID_LETTERS, 16, count))


def host_ids(draws: Draws, count: int) -> list[str]:
    """Return host IDs as S3 writes them: 56 bytes in base64, which are 76 characters ending in `=`."""
    rows = np.empty((count, 76), dtype=np.uint8)
    rows[:, :74] = draws.letters(BASE64_LETTERS, 74, count)
    rows[:, 74:75] = draws.letters(BASE64_LETTERS[::4], 1, count)  # the last letter has only four bits
    rows[:, 75] = ord("=")
    return rows_as_text(rows)


def hex_name(draws: Draws) -> str:
    """Return the unique part of a log key's name: 16 hexadecimal digits."""
    return rows_as_text(draws.letters(HEX_LETTERS, 16, 1))[0]
