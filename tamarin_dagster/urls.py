"""Show URLs of databases and S3 endpoints without their secrets, and errors that may repeat one.

A database URL may hold secrets in two places: the password, and the parameters of its query. A malformed URL may hold
them anywhere. So a URL is shown only if it can be read in exactly one way, and then only its user, host, port and
database.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import unquote, unquote_plus

# The text that replaces a secret.
HIDDEN = "***"
# Shorter values are not searched for in an error's text, because they occur in ordinary words.
MIN_SECRET_CHARACTERS = 3

# No part holds a character that ends it, so a URL whose password holds an `@` does not match.
_DATABASE_URL = re.compile(
    r"postgres(?:ql)?(?:\+[a-z0-9]+)?://"
    r"(?:(?P<user>[^@/?#:]*)(?::(?P<password>[^@/?#]*))?@)?"
    r"(?P<host>\[[0-9a-f:.%]+\]|[\w.~%-]*)"
    r"(?::(?P<port>[0-9]{0,5}))?"
    r"/(?P<database>[^@?#]*)"
    r"(?:\?(?P<query>[^@]*))?",
    re.IGNORECASE,
)
_ENDPOINT_URL = re.compile(
    r"(?P<shown>https?://(?:\[[0-9a-f:.]+\]|[\w.-]+)(?::[0-9]{1,5})?)(?:/[^@?#\s]*)?", re.IGNORECASE
)
# From the scheme to the last `@` before a blank or a quote, because a password may hold any other character.
_USERINFO = re.compile(r"(?<=://)[^\s\"'<>]*@")
# These parameters only repeat what is shown anyway.
_SHOWN_PARAMETERS = ("host", "hostaddr", "port", "dbname", "user")


@dataclass(frozen=True, slots=True)
class DatabaseUrlParts:
    """The parts of a database URL as written: percent-encoded."""

    user: str
    password: str | None
    host: str
    port: str
    database: str
    parameters: tuple[tuple[str, str], ...]


def parse_database_url(url: str) -> DatabaseUrlParts | None:
    """Return the parts of the URL; None if it is malformed or ambiguous."""
    found = _DATABASE_URL.fullmatch(url)
    if found is None:
        return None
    # A piece without a name is a value.
    pairs = (pair.rpartition("=") if "=" not in pair else pair.partition("=") for pair in _pairs(found["query"]))
    return DatabaseUrlParts(
        found["user"] or "",
        found["password"],
        found["host"],
        found["port"] or "",
        found["database"],
        tuple((name, value) for name, _, value in pairs),
    )


def _pairs(query: str | None) -> list[str]:
    return [pair for pair in (query or "").split("&") if pair]


def describe_url(url: str) -> str:
    """Return the part of a URL that is safe to show.

    For a database: user, host, port and database. For an endpoint: host and port. For any other text: nothing.
    """
    if parts := parse_database_url(url):
        user = parts.user + f":{HIDDEN}" * (parts.password is not None)
        place = parts.host + f":{parts.port}" * bool(parts.port)
        return f"postgresql://{user}{'@' * bool(user)}{place}/{parts.database}"
    if found := _ENDPOINT_URL.fullmatch(url):
        return found["shown"]
    return "an endpoint URL" if url.lower().startswith("http") else "a database URL"


def hide_secrets(text: str, url: str, *, parameters: bool = True) -> str:
    """Return the text without the secrets of the database URL, as written there or decoded.

    Without `parameters` only the password is searched for: the error of a statement repeats no parameter, but may hold
    the same word.
    """
    parts = parse_database_url(url)
    if parts is None:
        return "the error is not shown, because it may repeat the password"
    values = [parts.password or ""]
    for name, value in parts.parameters:
        if name == "password":
            values.append(value)
        elif parameters and name not in _SHOWN_PARAMETERS:
            values += [value, *re.split(r"[\s=,]+", unquote_plus(value))]
    forms = {form for value in values for form in (value, unquote(value), unquote_plus(value))}
    shown = {part for each in (parts.user, parts.host, parts.port, parts.database) for part in (each, unquote(each))}
    for secret in sorted(forms - shown, key=len, reverse=True):
        if len(secret) >= MIN_SECRET_CHARACTERS:
            text = text.replace(secret, HIDDEN)
    return text


def hide_userinfo(text: str) -> str:
    """Return the text without user and password in every URL in it."""
    return _USERINFO.sub(f"{HIDDEN}@", text)


def clean_error(error: BaseException, url: str, *, parameters: bool = True) -> None:
    """Remove the secrets of the database URL from an error and its causes, so that no traceback shows them."""
    chain: list[BaseException] = []
    pending: list[BaseException | None] = [error]
    while pending:
        each = pending.pop()
        if each is not None and each not in chain:
            chain.append(each)
            pending += [each.__cause__, each.__context__]
    for each in chain:
        each.args = tuple(
            hide_secrets(arg, url, parameters=parameters) if isinstance(arg, str) else arg for arg in each.args
        )


@contextmanager
def clean_errors(url: str) -> Iterator[None]:
    """Remove the secrets of the database URL from every error that passes."""
    try:
        yield
    except Exception as error:
        clean_error(error, url)
        raise
