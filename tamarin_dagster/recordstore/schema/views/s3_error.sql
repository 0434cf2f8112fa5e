-- Failed requests: the object key, the status and the code, and the number of pages, user agents and addresses.
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
      AND s3_is_error(r.http_status, r.error_code)
    GROUP BY r.bucket, r.key, r.operation, r.http_status, r.error_code
) failed;
