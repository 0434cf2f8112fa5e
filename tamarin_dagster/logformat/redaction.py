r"""Remove the secrets of presigned URLs from texts: a signature is a credential for as long as its URL is valid.

Values of `SECRET_PARAMETERS` become `REDACTED`; every other character stays unchanged. Clients send such URLs as the
target of a request, as the referrer, and inside other URLs, where each level is percent-encoded once more. So here
"X or encoded" means: X, `%58`, `%2558` and so on, hex digits in either case.

- A name counts after `?`, `&`, `;` or `#`, plain or encoded, and before `=`, plain or encoded. Case is ignored, and any
  character may be encoded, because S3 decodes names before it compares them. A longer name that ends in a secret one
  is another name.
- Its value ends before the next `&`, `;`, `#`, blank or `"`; after an encoded separator also before an encoded `&` or
  `#`, because the outer URL continues there; otherwise with the text. So a fragment counts too.
- An empty value stays empty. A value that is `REDACTED` stays, so redacting twice equals redacting once.

These regular expressions are the rules. `compiled.redaction` follows them where numba is installed.

Source: S3 user guide, "Authenticating requests: using query parameters" (SigV4), "Signing and authenticating REST
requests" (SigV2).
"""

import re
from functools import cache
from typing import TYPE_CHECKING

from tamarin_dagster.logformat.engine import compiled_engine

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SECRET_PARAMETERS = (
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "X-Amz-S3session-Token",
    "X-Amz-Server-Side-Encryption-Customer-Key",
    "X-Amz-Copy-Source-Server-Side-Encryption-Customer-Key",
    "Authorization",
    "Signature",
    "AWSAccessKeyId",
)
"""The query parameters whose values are redacted; the last two are those of SigV2.

S3 also accepts any header that begins with x-amz- as a parameter of a presigned URL, including SSE-C keys. The MD5 of
such a key (…-Key-MD5) gives no access, and stays.
"""
REDACTED = "REDACTED"
"""The replacement for a secret."""
REDACTED_COLUMNS = ("request_uri", "referrer")
"""The columns in which clients send URLs."""


def _make_encoded(character: str) -> str:
    return f"%(?:25)*{ord(character):02x}"


def _make_plain_or_encoded(character: str) -> str:
    """Return a pattern for a character of a name in either case, plain or encoded."""
    forms = [re.escape(character), *map(_make_encoded, sorted({character.lower(), character.upper()}))]
    return f"(?:{'|'.join(forms)})"


def _make_any_encoded(characters: str) -> str:
    return f"(?:{'|'.join(map(_make_encoded, characters))})"


@cache
def _secret() -> re.Pattern[str]:
    """Compile the rules on first use, because that takes a tenth of a second."""
    names = "|".join("".join(map(_make_plain_or_encoded, name)) for name in SECRET_PARAMETERS)
    name = f"(?:{names}){_make_plain_or_encoded('=')}"
    return re.compile(
        rf'({_make_any_encoded("?&;#")}{name})(?:(?!{_make_any_encoded("&#")})[^&;# "])+|([?&;#]{name})[^&;# "]+',
        re.ASCII | re.IGNORECASE,
    )


def redact_text(text: str) -> str:
    """Return the text without the secrets of the URLs in it; also for messages that may quote a URL."""
    if "=" not in text and "%" not in text:
        return text  # it holds no parameter
    return _secret().sub(lambda found: f"{found[1] or found[2]}{REDACTED}", text)


def redact_texts(texts: "pa.Array") -> "pa.Array":
    """Return a column without secrets: the same object if there are none.

    Args:
        texts: of Arrow's type string; nulls stay null.
    """
    engine = compiled_engine()
    if engine:
        return engine.redact_texts(texts)
    import pyarrow as pa  # noqa: PLC0415

    given = texts.to_pylist()
    redacted = [text and redact_text(text) for text in given]
    return texts if redacted == given else pa.array(redacted, texts.type)


def redact(records: "pd.DataFrame") -> "pd.DataFrame":
    """Return a frame of records without secrets in `REDACTED_COLUMNS`: the same object if there are none."""
    from tamarin_dagster.logformat import frames  # noqa: PLC0415 - most callers redact one text, without Arrow

    changed = {}
    for name in REDACTED_COLUMNS:
        texts = frames.get_column(records, name)
        redacted = frames.map_chunks(redact_texts, texts)
        if redacted is not texts:
            changed[name] = frames.to_series(redacted)
    return records.assign(**changed) if changed else records
