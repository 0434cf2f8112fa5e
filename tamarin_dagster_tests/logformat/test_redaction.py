"""Secrets of presigned URLs do not pass `redact`, and nothing else changes."""

import json
import os
import subprocess
import sys
from urllib.parse import parse_qs, quote, urlsplit

import pyarrow as pa
import pytest
from botocore.auth import HmacV1QueryAuth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from tamarin_dagster.logformat import RECORDS_SCHEMA, compiled, parse_logs, redact, redaction
from tamarin_dagster.logformat.frames import to_table
from tamarin_dagster.logformat.redaction import SECRET_PARAMETERS
from tamarin_dagster.recordstore.copy_binary import render
from tamarin_dagster_tests.examples import at_least
from tamarin_dagster_tests.logformat.invariants import NOW
from tamarin_dagster_tests.logformat.lines_written import BASES, BLOCK, HOST_ID, TAIL, line


def redact_text(text):
    """Return the text redacted by the rules, which the compiled engine must follow."""
    redacted = redaction.redact_text(text)
    (column,) = compiled.redact_texts(pa.array([text], pa.string())).to_pylist()
    assert column == redacted
    return redacted


SECRET = "s3cr3t"
_SEPARATORS = [
    "?",
    "&",
    ";",
    "#",
    "%3F",
    "%3f",
    "%26",
    "%3B",
    "%3b",
    "%23",
    "%253F",
    "%2526",
    "%253b",
    "%2523",
    "%252526",
]
_EQUALS = ["=", "%3D", "%3d", "%253D", "%25253d"]


@pytest.mark.parametrize("equals", _EQUALS)
@pytest.mark.parametrize("separator", _SEPARATORS)
def test_a_value_behind_a_separator_a_name_and_an_equals_sign_is_redacted(separator, equals):
    names = [*SECRET_PARAMETERS, *map(str.lower, SECRET_PARAMETERS), *map(str.upper, SECRET_PARAMETERS)]
    before = [f"/k{separator}{name}{equals}" for name in names]
    assert [redact_text(f"{text}s3cr3t") for text in before] == [f"{text}REDACTED" for text in before]


@pytest.mark.parametrize(
    "before",
    [
        "/k?X%2DAmz%2dSignature=",
        "/k?X%252DAmz-Signature=",
        "/k?%58-%41mz-Signature=",
        "/k?AWSAccess%4BeyId=",
        "/k?AWSAccess%4beyId=",
        "/k?" + "".join(f"%{ord(letter):02x}" for letter in "X-Amz-Security-Token") + "=",
        "/k?" + "".join(f"%25{ord(letter):02X}" for letter in "signature") + "%3D",
        "/k?versionId=1&amp;Signature=",
        "/k#top&Signature=",
        "/k#Signature=",
        "/k?x=1#X%2DAmz-Signature=",
        "/k%23Authorization%3D",
        "/k;AUTHORIZATION=",
        "/k?x-amz-s3SESSION-token=",
        "/k?x-amz-server-side-encryption-customer-key=",
        "/k#x%2Damz%2Dserver%2Dside%2Dencryption%2Dcustomer%2Dkey=",
        "/k?X-Amz-Copy-Source-Server-Side-Encryption-Customer-Key=",
        "/k#Signature=REDACTED#Signature=",
        "/k??Signature=",
        "/k?&&;Signature=",
        "/k?Signature&Signature=",
        "/k?url=https%3A%2F%2Fb.example%2Fk%3FSignature%3D",
        "/k?Signature=&Signature=",
        "/k?Signature=REDACTED&Signature=",
        "/k?%Signature=%25&Signature=",
        "/k?%2525253F%252525253FSignature=",
    ],
)
def test_a_name_may_be_written_in_many_ways(before):
    assert redact_text(before + SECRET) == before + "REDACTED"


@pytest.mark.parametrize("end", ["&x=1", ";x", "#top", " HTTP/1.1", '"', "&", "&Signature="])
def test_a_value_ends_here(end):
    assert redact_text(f"/k?Signature={SECRET}{end}") == f"/k?Signature=REDACTED{end}"
    assert redact_text(f"/k%3FSignature%3D{SECRET}{end}") == f"/k%3FSignature%3DREDACTED{end}"


@pytest.mark.parametrize("end", ["%26x", "%23top", "%2526x", "%2523", "%252526", "%26Signature%3D"])
def test_a_value_ends_at_an_encoded_separator_if_its_name_stands_behind_one(end):
    assert redact_text(f"/k%3FSignature%3D{SECRET}{end}") == f"/k%3FSignature%3DREDACTED{end}"
    assert redact_text(f"/k?Signature={SECRET}{end}") == "/k?Signature=REDACTED"


@pytest.mark.parametrize(
    "value",
    [
        *("a+b/c==", "a%2Bb%2Fc%3D", "?", "'", "%", "%2", "%25", "%252", "\t", "é", "\\x00", "%3B", "a" * 4000),
        *("REDACTED1", "redacted", "REDACTE", "%52EDACTED", "x?Signature=y"),
    ],
)
def test_a_value_is_redacted_as_a_whole(value):
    assert redact_text(f"/k?Signature={value}&x=1") == "/k?Signature=REDACTED&x=1"
    assert redact_text(f"/k%3fsignature%3d{value}%26x=1") == "/k%3fsignature%3dREDACTED%26x=1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "/",
        "/k?versionId=1&x-id=GetObject",
        "/k?NotSignature=1&XX-Amz-Signature=1&X-Amz-SignedHeaders=host&X-Amz-Date=1&Signatures=1&Signature1=1",
        "/Signature=1/AWSAccessKeyId=1",
        "Signature=1",
        "/k?Signature",
        "/k?Signature&x=1",
        "/k?Signature/=1",
        "/k?Signature=",
        "/k?Signature=&x=1",
        "/k?Signature%3D&x=1;Signature=#",
        "/k%3FSignature%3D%26x",
        "/k?Signature=REDACTED&X-Amz-Credential=REDACTED",
        "/k%3FSignature%3DREDACTED%26x",
        "/k?x=Signature=1",
        "/k?x-amz-server-side-encryption-customer-key-MD5=1&x-amz-server-side-encryption-customer-algorithm=AES256",
        "/k?ProxyAuthorization=1#NotSignature=1",
        "/k#Signature",
        "/k?%20Signature=1",
        "/k?+Signature=1",
        "/k?%3Signature=1",
        "/k?%2fSignature=1",
        "/k?%Signature%3",
        "/k?%25",
        "/k%2525",
        "/k?%53",
        "/k?\u017fignature=1&AWSAccess\u212aeyId=1",  # letters that Unicode takes for s and K, but no server
        "/k?X_Amz_Signature=1&XAmzSignature=1&X\rAmz\rSignature=1",
        "/k?\x13IGNATURE=1",
    ],
)
def test_all_else_stays(text):
    assert redact_text(text) == text


def test_a_text_of_python_may_hold_what_is_no_utf8():
    assert redaction.redact_text("\udcff\ud800?Signature=\udcff&é\0") == "\udcff\ud800?Signature=REDACTED&é\0"


_PARTS = st.one_of(
    st.sampled_from([*_SEPARATORS, *_EQUALS]),
    st.sampled_from([*SECRET_PARAMETERS, *map(str.upper, SECRET_PARAMETERS), "X%2damz%252DSignature", "%53ignature",
                     "%2553ignatur%65", "sign", "ature", "Not", "X-Amz-", "\u017f", "REDACTED", "REDACTE", "x"]),
    st.sampled_from(["%", "25", "%25", "%2", "2", "3", "D", "%23", "%2523", "#", " ", '"', "/", "%20", "é", "\\x00"]),
)  # fmt: skip
_PARAMETERS = st.tuples(
    st.sampled_from(_SEPARATORS), st.sampled_from(SECRET_PARAMETERS), st.sampled_from(_EQUALS), st.lists(_PARTS)
).map(lambda parts: "".join(parts[:3]) + "".join(parts[3]))
HOSTILE = st.lists(st.one_of(_PARTS, _PARAMETERS)).map("".join)
"""URIs put together from what the rules tell apart."""


@at_least(600)
@given(HOSTILE)
def test_compiled_columns_are_redacted_by_the_rules(text):
    redact_text(text)


@at_least(200)
@given(st.one_of(HOSTILE, st.text()))
def test_to_redact_twice_is_to_redact_once(text):
    redacted = redact_text(text)
    assert redact_text(redacted) == redacted


_BASE64_CHARACTERS = "ABCXYZabcxyz0189+/"
_BASE64 = st.text(_BASE64_CHARACTERS, min_size=16, max_size=120)
# None of it looks like a secret.
_URL_TEXTS = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x24F, exclude_characters=_BASE64_CHARACTERS), max_size=20
)


@at_least(200)
@given(
    st.text("ABCXYZ0189", min_size=16, max_size=24),
    st.one_of(st.none(), _BASE64.map("{}==".format)),
    _URL_TEXTS,
    _URL_TEXTS,
    st.sampled_from([HmacV1QueryAuth, S3SigV4QueryAuth]),
    st.integers(0, 3),
)
def test_no_secret_of_a_presigned_url_survives(access_key, token, key, query, scheme, times_encoded):
    """Signed by botocore; bare, and as a parameter of a URL that is a parameter of another one."""
    credentials = Credentials(access_key, "not looked at", token)
    request = AWSRequest("GET", f"https://films.s3.amazonaws.com/{quote(key)}?response-content-type={quote(query)}")
    signing = [credentials, "s3", "eu-west-1"] if scheme is S3SigV4QueryAuth else [credentials]
    scheme(*signing, expires=60).add_auth(request)
    parameters = parse_qs(urlsplit(request.url).query)
    secrets = {name: values[0] for name, values in parameters.items() if name in SECRET_PARAMETERS}
    assert len(secrets) >= 2
    url = request.url
    for _ in range(times_encoded):
        url = f"https://go.example/?to={quote(url, safe='')}&from=mail"
    redacted = redact_text(url)
    for secret in [access_key, *secrets.values()]:
        forms = [secret]
        for _ in range(5):
            forms.append(quote(forms[-1], safe=""))
        assert not [form for form in forms if form in redacted]


_URLS = ["/k?X-Amz-Date=1&X-Amz-Signature=abc&x=1", "/k?a=%3Fsignature%3Dab%26b", "/k", "/?prefix=a%20b", "-"]
_ODD = f"{BASES[0]} \0"
# For the regex reader: a column of March 2019, and an extra field.
_LEFT = line('"GET /k?Signature=abc HTTP/1.1"', tail=f"- - {HOST_ID} SigV4 C AuthHeader films.example TLSv1 - - - new")


def written(uri, referrer="-"):
    return line(f'"GET {uri} HTTP/1.1"', referrer=f'"{referrer}"', user_agent='"curl?Signature=abc"')


def parsed(lines):
    return parse_logs(["".join(f"{each}\n" for each in lines).encode()], now=NOW).records


def texts_of(records, name):
    return to_table(records, RECORDS_SCHEMA)[name].to_pylist()


def check_redacted(records):
    """Check that these records are redacted as they should be, nothing else has changed, and the input is unchanged."""
    before = to_table(records, RECORDS_SCHEMA)
    redacted = redact(records)
    expected = before
    for name in ("request_uri", "referrer"):
        column = [text and redaction.redact_text(text) for text in before[name].to_pylist()]
        at = expected.schema.get_field_index(name)
        expected = expected.set_column(at, expected.schema.field(name), pa.array(column, pa.string()))
    assert to_table(redacted, RECORDS_SCHEMA).equals(expected)
    assert (redacted is records) == expected.equals(before)
    assert redact(redacted) is redacted
    assert to_table(records, RECORDS_SCHEMA).equals(before)
    return redacted


@at_least(80)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([*BASES, _ODD, _LEFT, "no record", ""]),
            st.builds(written, *[st.one_of(st.sampled_from(_URLS), HOSTILE)] * 2),
        ),
        max_size=5,
    )
)
def test_of_records_two_columns_are_redacted_and_nothing_else(lines):
    check_redacted(parsed(lines))


def test_texts_of_each_kind_of_line_are_redacted():
    """Texts in the lines, escaped texts, and those of the regex reader."""
    lines = [written(url, other) for url in _URLS for other in _URLS]
    lines += [written("/k?Signature=\0abc", "\\x?Signature=abc&\0"), _LEFT, line(tail=f"{TAIL} &Signature=abc")]
    records = parsed(lines)
    assert len(records) == len(lines)
    uris, referrers = (texts_of(check_redacted(records), name) for name in ("request_uri", "referrer"))
    assert uris[:5] == ["/k?X-Amz-Date=1&X-Amz-Signature=REDACTED&x=1"] * 5
    assert uris[-3:-1] == ["/k?Signature=REDACTED"] * 2
    assert referrers[:3] == [uris[0], "/k?a=%3Fsignature%3DREDACTED%26b", "/k"]
    assert referrers[-3] == r"\x5cx?Signature=REDACTED&\x00"


def test_without_secrets_the_records_are_the_same_object():
    records = parsed([*BASES, written("/k?Signature=&x"), written("/k", "/?X-Amz-Signature=REDACTED")])
    assert redact(records) is records
    nothing = records.iloc[:0]
    assert redact(nothing) is nothing


def test_a_slice_of_a_column_with_nulls_is_redacted():
    """Arrow's slices begin anywhere in their buffers, including the validity bits."""
    texts = [None, "/k?Signature=a", "x" * 9, None, "/?Signature=b&c", "", None, "/k", None, "/?Signature=d"] * 3
    column = pa.array(texts, pa.string())
    for start in range(len(texts)):
        expected = [text and redaction.redact_text(text) for text in texts[start:]]
        assert compiled.redact_texts(column[start:]).to_pylist() == expected


def test_without_numba_records_are_redacted_alike(monkeypatch):
    records = parsed([written(url, other) for url in _URLS for other in _URLS] + [_LEFT])
    redacted = to_table(redact(records), RECORDS_SCHEMA)
    monkeypatch.setattr(redaction, "compiled_engine", lambda: None)
    assert to_table(check_redacted(records), RECORDS_SCHEMA).equals(redacted)


def test_what_copy_is_sent_says_redacted():
    secret = [written(f"/k?Signature={'x' * size}", f"/?AWSAccessKeyId={'y' * size}&a") for size in (1, 8, 500)]
    said = [written("/k?Signature=REDACTED", "/?AWSAccessKeyId=REDACTED&a")] * 3
    lines, expected = [*BASES, *secret, _LEFT], [*BASES, *said, _LEFT.replace("=abc", "=REDACTED")]
    sent, wanted = (
        b"".join(render(to_table(records, RECORDS_SCHEMA), [7]))
        for records in (redact(parsed(lines)), parsed(expected))
    )
    assert sent == wanted


def test_many_secrets_in_one_text_are_redacted():
    """A text grows most if each value is one byte."""
    records = parsed([written("/" + "?Signature=x" * 3 + ";Signature=x" * 5000, "-")])
    assert texts_of(check_redacted(records), "request_uri")[0].endswith(";Signature=REDACTED" * 5000)


def test_one_value_that_holds_all_that_looks_like_secrets_is_one():
    assert redact_text("/" + "?Signature=x" * 3) == "/?Signature=REDACTED"


@pytest.mark.parametrize("text", ["%25" * 200_000, "%253F" * 200_000, "?" * 400_000, "%3Fx%25" * 100_000])
def test_a_hostile_text_takes_no_longer_than_its_length(text):
    """As long as a line may be: a search that restarted at each byte would take minutes."""
    assert redact_text(text) == text


def test_plain_python_redacts_as_machine_code_does():
    lines = [*BASES, *(written(url, other) for url in _URLS for other in _URLS), _LEFT]
    texts = ["", "é?Signature=abc&x", "%3fX%2Damz-%2553ignature%3da%2526%25", "a=%25%2&;Signature=REDACTED", BLOCK]
    code = (
        "import sys, json, pyarrow as pa; from tamarin_dagster.logformat.compiled import redact_texts\n"
        "texts = pa.array(json.load(sys.stdin), pa.string())\n"
        "print(json.dumps(redact_texts(texts).to_pylist()))"
    )
    shown = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code],  # numpy warns of sums that overflow
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        input=json.dumps([*lines, *texts]),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(shown.stdout) == [redact_text(text) for text in [*lines, *texts]]
