-- HTTP requests without credentials: they have neither a requester nor a signature.
--
-- A request with a wrong signature has no requester either, but is not in this view. s3_is_anonymous knows what S3 and
-- other stores write for an anonymous requester.
--
--     SELECT * FROM s3_anonymous_access WHERE request_date = '2026-03-05' ORDER BY requests DESC;
--
CREATE OR REPLACE VIEW s3_anonymous_access AS
SELECT
    found.bucket,
    day.request_date,
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
        r.user_agent,
        r.operation,
        count(*) AS requests,
        count(*) FILTER (WHERE s3_is_error(r.http_status, r.error_code)) AS refused_requests,
        coalesce(sum(r.bytes_sent), 0) AS bytes_sent,
        count(DISTINCT r.key) AS keys,
        count(DISTINCT r.remote_ip) AS remote_ips
    FROM s3_log_record r
    WHERE r.request_dtime >= day.starts AND r.request_dtime < day.ends
      AND s3_is_anonymous(r.requester)
      AND r.authentication_type IS NULL
      AND r.signature_version IS NULL
      AND r.remote_ip IS NOT NULL
    GROUP BY r.bucket, r.user_agent, r.operation
) found;
