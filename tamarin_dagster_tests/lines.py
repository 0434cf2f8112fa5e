"""Log lines for tests, in the shape S3 writes them."""

OWNER = "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"
HOST_ID = "s9lzHYrFp76ZVxRcpX9+5cjAnEH2ROuNkd2BHfIa6UkFVdtjf5mKR3/eTPFvsiP/XV/VLi31234="


def line(
    time: str = "05/Mar/2026:09:58:01 +0000",
    *,
    bucket: str = "media",
    remote_ip: str = "192.0.2.3",
    request_id: str = "3E57427F33A59F07",
    key: str = "video/intro.mp4",
    status: str = "200",
    size: int = 113,
    user_agent: str = "curl/8.5.0",
) -> bytes:
    """One ordinary line of 27 fields, with its LF."""
    return (
        f"{OWNER} {bucket} [{time}] {remote_ip} - {request_id} REST.GET.OBJECT {key}"
        f' "GET /{key} HTTP/1.1" {status} - {size} {size} 7 6 "-" "{user_agent}" - {HOST_ID} - '
        "TLS_AES_128_GCM_SHA256 - media.s3.amazonaws.com TLSv1.3 - - us-east-1\n"
    ).encode()


def lines(count: int, time: str = "05/Mar/2026:09:58:01 +0000") -> bytes:
    """`count` ordinary lines that differ in their request ids."""
    return b"".join(line(time, request_id=f"{number:016X}") for number in range(count))
