-- Requests that needed an access control list: they fail once the bucket's ACLs are disabled.
--
--     SELECT * FROM s3_acl_dependent WHERE request_date = '2026-03-05' ORDER BY requests DESC;
--
CREATE OR REPLACE VIEW s3_acl_dependent AS
SELECT
    found.bucket,
    day.request_date,
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
      AND r.acl_required = 'Yes'
    GROUP BY r.bucket, 2, r.user_agent, r.operation
) found;
