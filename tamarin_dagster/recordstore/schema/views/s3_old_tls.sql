-- Requests over TLS older than 1.2, or without TLS: their clients stop working once such access is refused.
--
-- A line without a TLS version was plain HTTP if it has a host and no cipher. Lines from before 2019 have neither, and
-- S3's own actions have no address: both are left out.
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
        CASE WHEN NOT s3_is_anonymous(r.requester) THEN r.requester END AS requester,
        r.user_agent,
        r.operation,
        count(*) AS requests,
        count(*) FILTER (WHERE s3_is_error(r.http_status, r.error_code)) AS refused_requests,
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
    GROUP BY r.bucket, r.tls_version, 3, r.user_agent, r.operation
) found;
