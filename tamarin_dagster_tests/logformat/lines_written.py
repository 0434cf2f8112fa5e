"""Log lines written by hand in S3's shapes, and words that matter to a reader."""

OWNER = "0123456789abcdef" * 4
HOST_ID = "Zm9yIHRlc3RzIG9ubHksIG5vdCBhIHJlYWwgaG9zdCBpZCBhdCBhbGwgLyArIGFuZCBwYWRkaW5nISE="
HEAD = f"{OWNER} films [06/Feb/2019:00:00:38 +0000] 192.0.2.3 {OWNER} 7F3A59C0D2B4E618 REST.GET.OBJECT reel/1.mov"
BLOCK = "200 - 113 4096 7 5"
TAIL = (
    f"- {HOST_ID} SigV4 ECDHE-RSA-AES128-GCM-SHA256 AuthHeader films.s3.eu-west-1.amazonaws.com TLSv1.2 - - eu-west-1"
)


def line(
    request: str = '"GET /reel/1.mov HTTP/1.1"',
    *,
    head: str = HEAD,
    block: str = BLOCK,
    referrer: str = '"-"',
    user_agent: str = '"curl/8.1"',
    tail: str = TAIL,
) -> str:
    """Return a line of the given parts, each as it is written, including quotes."""
    return " ".join(part for part in (head, request, block, referrer, user_agent, tail) if part)


WORDS = [
    "-", '"-"', '""', '"', " ", "  ", "\t", "\r", "\\x", "\0", "é", "200", "-1", "SigV4", "Yes", "arn:a b", "[", "]",
    '" "', '" 200 - 1 1 1 1 "', ' HTTP/1.1" 404 - 1 1 1 1 ', ' HTTP/1.1"', HOST_ID, TAIL, HEAD, BLOCK, "TLSv1.2",
    "[06/Feb/2019:00:00:38 +0000]", "REST.GET.OBJECT", "1.2.3.4", "\n",
    "arn:aws:iam::cloudfront:user/CloudFront Origin Access Identity E2ABC",
]  # fmt: skip
"""The texts that cut a line, or that could be mistaken for them."""
BASES = [
    line(),
    line(tail=""),
    line(tail="-"),
    line(tail=f"{TAIL} new"),
    line(tail=f"- - {HOST_ID} SigV4 C AuthHeader films.example"),
    line('"-"', block="- - - 5 - -"),
    line("-", block="204 - - 5 - -", referrer="-", user_agent="-"),
    line(referrer="-", user_agent="-"),
    line(head=HEAD.replace(f".3 {OWNER}", ".3 arn:aws:iam::cloudfront:user/CloudFront Origin Access Identity E2ABC")),
    line('"GET /?f="x y" HTTP/1.1"', user_agent='"{"a":"b c"}"'),
]
"""One line of each shape."""
