-- Requests that an access control list had to allow: they fail once a bucket's ACLs are disabled.
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
      AND r.acl_required = 'Yes'
    GROUP BY r.bucket, r.requester, r.user_agent, r.operation
) found;

COMMENT ON VIEW s3_acl_dependent IS
    'Requests of each UTC day that needed an access control list. Ask with bounds on request_date.';
COMMENT ON COLUMN s3_acl_dependent.bucket IS 'Bucket that the requests were made to.';
COMMENT ON COLUMN s3_acl_dependent.request_date IS 'UTC day of the requests.';
COMMENT ON COLUMN s3_acl_dependent.requester IS 'Canonical user id, ARN or service; null if not authenticated.';
COMMENT ON COLUMN s3_acl_dependent.user_agent IS 'HTTP User-Agent header; null if none was sent.';
COMMENT ON COLUMN s3_acl_dependent.operation IS 'What was asked for, as INTERFACE.METHOD.RESOURCE.';
COMMENT ON COLUMN s3_acl_dependent.requests IS 'Requests.';
COMMENT ON COLUMN s3_acl_dependent.refused_requests IS 'Those of them that were answered with a 4xx or 5xx.';
COMMENT ON COLUMN s3_acl_dependent.bytes_sent IS 'Bytes of their responses.';
COMMENT ON COLUMN s3_acl_dependent.keys IS 'Different objects that they were for.';
COMMENT ON COLUMN s3_acl_dependent.remote_ips IS 'Different addresses that they came from.';
