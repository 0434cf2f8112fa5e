"""A line whose figures a test chooses."""

from tamarin_dagster_tests.lines import HOST_ID, OWNER


def record(
    time: str = "05/Mar/2026:09:58:01 +0000",
    *,
    bucket: str = "media",
    ip: str = "192.0.2.3",
    requester: str = "-",
    operation: str = "REST.GET.OBJECT",
    key: str = "a",
    status: str = "200",
    error: str = "-",
    sent: str = "100",
    size: str = "-",
    took: str = "7",
    referrer: str = "-",
    agent: str = "curl/8.5.0",
    region: str = "-",
) -> bytes:
    return (
        f'{OWNER} {bucket} [{time}] {ip} {requester} 3E57427F33A59F07 {operation} {key} "GET /{key} HTTP/1.1" {status}'
        f' {error} {sent} {size} {took} 6 "{referrer}" "{agent}" - {HOST_ID} SigV4 TLS_AES_128_GCM_SHA256 AuthHeader'
        f" media.s3.amazonaws.com TLSv1.3 - - {region}\n"
    ).encode()
