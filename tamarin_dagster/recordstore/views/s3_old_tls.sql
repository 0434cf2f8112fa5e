-- Requests over TLS older than 1.2, or over none at all: their clients stop when such access is refused.
--
-- A line without a TLS version was plain HTTP if it has a host and no cipher; lines of before 2019 have neither, and S3's
-- own doings have none, and they are not here.
--
--     SELECT * FROM s3_old_tls WHERE request_date = '2026-03-05' ORDER BY requests DESC;
--
CREATE OR REPLACE VIEW s3_old_tls AS
SELECT
    found.bucket,
    day.request_date,
    found.tls_version,
    found.requester,
    found.user_agent,
    found.operation,
    found.requests,
    found.refused_requests,
    found.bytes_sent,
    found.keys,
    found.remote_ips
FROM s3_request_day day
CROSS JOIN LATERAL (
    SELECT
        r.bucket,
        r.tls_version,
        r.requester,
        r.user_agent,
        r.operation,
        count(*) AS requests,
        count(*) FILTER (WHERE r.http_status >= 400) AS refused_requests,
        coalesce(sum(r.bytes_sent), 0) AS bytes_sent,
        count(DISTINCT r.key) AS keys,
        count(DISTINCT r.remote_ip) AS remote_ips
    FROM s3_log_record r
    WHERE r.request_dtime >= day.starts AND r.request_dtime < day.ends
      AND (
          upper(r.tls_version) IN ('SSLV2', 'SSLV3', 'TLSV1', 'TLSV1.0', 'TLSV1.1')
          OR r.tls_version IS NULL AND r.cipher_suite IS NULL AND r.host_header IS NOT NULL
              AND r.remote_ip IS NOT NULL
      )
    GROUP BY r.bucket, r.tls_version, r.requester, r.user_agent, r.operation
) found;

COMMENT ON VIEW s3_old_tls IS
    'Requests of each UTC day over TLS older than 1.2, or without TLS. Ask with bounds on request_date.';
COMMENT ON COLUMN s3_old_tls.bucket IS 'Bucket that the requests were made to.';
COMMENT ON COLUMN s3_old_tls.request_date IS 'UTC day of the requests.';
COMMENT ON COLUMN s3_old_tls.tls_version IS 'Version of TLS, as S3 logs it; null if there was none.';
COMMENT ON COLUMN s3_old_tls.requester IS 'Canonical user id, ARN or service; null if not authenticated.';
COMMENT ON COLUMN s3_old_tls.user_agent IS 'HTTP User-Agent header; null if none was sent.';
COMMENT ON COLUMN s3_old_tls.operation IS 'What was asked for, as INTERFACE.METHOD.RESOURCE.';
COMMENT ON COLUMN s3_old_tls.requests IS 'Requests.';
COMMENT ON COLUMN s3_old_tls.refused_requests IS 'Those of them that were answered with a 4xx or 5xx.';
COMMENT ON COLUMN s3_old_tls.bytes_sent IS 'Bytes of their responses.';
COMMENT ON COLUMN s3_old_tls.keys IS 'Different objects that they were for.';
COMMENT ON COLUMN s3_old_tls.remote_ips IS 'Different addresses that they came from.';
