-- Requests that failed: which key, with which status and code, and from how many pages, agents and addresses.
--
--     SELECT * FROM s3_error WHERE bucket = 'media' AND request_date = '2026-03-05' AND http_status IN (403, 404)
--     ORDER BY requests DESC LIMIT 20;
--
CREATE OR REPLACE VIEW s3_error AS
SELECT
    failed.bucket,
    day.request_date,
    failed.key,
    failed.operation,
    failed.http_status,
    failed.error_code,
    failed.requests,
    failed.referrers,
    failed.user_agents,
    failed.remote_ips,
    failed.first_request_dtime,
    failed.last_request_dtime
FROM s3_request_day day
CROSS JOIN LATERAL (
    SELECT
        r.bucket,
        r.key,
        r.operation,
        r.http_status,
        r.error_code,
        count(*) AS requests,
        count(DISTINCT r.referrer) AS referrers,
        count(DISTINCT r.user_agent) AS user_agents,
        count(DISTINCT r.remote_ip) AS remote_ips,
        min(r.request_dtime) AS first_request_dtime,
        max(r.request_dtime) AS last_request_dtime
    FROM s3_log_record r
    WHERE r.request_dtime >= day.starts AND r.request_dtime < day.ends
      AND r.http_status >= 400
    GROUP BY r.bucket, r.key, r.operation, r.http_status, r.error_code
) failed;

COMMENT ON VIEW s3_error IS
    'Requests of each UTC day that were answered with a 4xx or 5xx, by key. Ask with bounds on request_date.';
COMMENT ON COLUMN s3_error.bucket IS 'Bucket that the requests were made to.';
COMMENT ON COLUMN s3_error.request_date IS 'UTC day of the requests.';
COMMENT ON COLUMN s3_error.key IS 'Object key, URL-encoded as S3 logs it; null for operations on the bucket.';
COMMENT ON COLUMN s3_error.operation IS 'What was asked for, as INTERFACE.METHOD.RESOURCE.';
COMMENT ON COLUMN s3_error.http_status IS 'HTTP status of the response, from 400 on.';
COMMENT ON COLUMN s3_error.error_code IS 'S3''s error code, such as NoSuchKey; null if it gave none.';
COMMENT ON COLUMN s3_error.requests IS 'Requests.';
COMMENT ON COLUMN s3_error.referrers IS 'Different HTTP Referer headers that they came with.';
COMMENT ON COLUMN s3_error.user_agents IS 'Different HTTP User-Agent headers that they came with.';
COMMENT ON COLUMN s3_error.remote_ips IS 'Different addresses that they came from.';
COMMENT ON COLUMN s3_error.first_request_dtime IS 'Time of the first of them (UTC).';
COMMENT ON COLUMN s3_error.last_request_dtime IS 'Time of the last of them (UTC).';
