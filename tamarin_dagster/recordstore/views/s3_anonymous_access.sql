-- What was asked for, and given, without credentials: neither requester nor signature, over HTTP.
--
-- A request whose signature was wrong has no requester either, and is not here. Old lines say Anonymous.
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
        count(*) FILTER (WHERE r.http_status >= 400) AS refused_requests,
        coalesce(sum(r.bytes_sent), 0) AS bytes_sent,
        count(DISTINCT r.key) AS keys,
        count(DISTINCT r.remote_ip) AS remote_ips
    FROM s3_log_record r
    WHERE r.request_dtime >= day.starts AND r.request_dtime < day.ends
      AND coalesce(r.requester, 'Anonymous') = 'Anonymous'
      AND r.authentication_type IS NULL
      AND r.signature_version IS NULL
      AND r.remote_ip IS NOT NULL
    GROUP BY r.bucket, r.user_agent, r.operation
) found;

COMMENT ON VIEW s3_anonymous_access IS
    'Requests of each UTC day that were made without credentials. Ask with bounds on request_date.';
COMMENT ON COLUMN s3_anonymous_access.bucket IS 'Bucket that the requests were made to.';
COMMENT ON COLUMN s3_anonymous_access.request_date IS 'UTC day of the requests.';
COMMENT ON COLUMN s3_anonymous_access.user_agent IS 'HTTP User-Agent header; null if none was sent.';
COMMENT ON COLUMN s3_anonymous_access.operation IS 'What was asked for, as INTERFACE.METHOD.RESOURCE.';
COMMENT ON COLUMN s3_anonymous_access.requests IS 'Requests.';
COMMENT ON COLUMN s3_anonymous_access.refused_requests IS 'Those of them that were answered with a 4xx or 5xx.';
COMMENT ON COLUMN s3_anonymous_access.bytes_sent IS 'Bytes of their responses.';
COMMENT ON COLUMN s3_anonymous_access.keys IS 'Different objects that they were for.';
COMMENT ON COLUMN s3_anonymous_access.remote_ips IS 'Different addresses that they came from.';
