"""Log lines written by hand in S3's shapes, and a writer of lines from field values."""

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
    """A line of the given parts, each as it is written, quotes included."""
    return " ".join(part for part in (head, request, block, referrer, user_agent, tail) if part)
