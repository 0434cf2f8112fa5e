-- Why an hour had so much traffic: what had more traffic than in the same hour of the seven days before.
--
--     SELECT * FROM s3_spike_causes('media', '2026-03-05 09:00Z') ORDER BY more_bytes DESC LIMIT 20;
--
-- There is a row for each key, address, referrer and user agent of the hour: each request is in all four kinds. The
-- hour is the one that contains the given time. The function reads the records of eight hours.
CREATE OR REPLACE FUNCTION s3_spike_causes(of_bucket text, in_hour timestamptz)
RETURNS TABLE (
    kind text,
    value text,
    requests bigint,
    bytes_sent numeric,
    usual_requests double precision,
    usual_bytes double precision,
    more_requests double precision,
    more_bytes double precision
)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT
        counted.kind,
        counted.value,
        counted.requests,
        counted.bytes_sent,
        counted.requests_before / CAST(7 AS double precision),
        counted.bytes_before / CAST(7 AS double precision),
        counted.requests - counted.requests_before / CAST(7 AS double precision),
        counted.bytes_sent - counted.bytes_before / CAST(7 AS double precision)
    FROM (
        SELECT
            CASE grouping(asked.key, asked.remote_ip, asked.referrer, asked.user_agent)
                WHEN 7 THEN 'key'
                WHEN 11 THEN 'remote_ip'
                WHEN 13 THEN 'referrer'
                WHEN 14 THEN 'user_agent'
            END AS kind,
            coalesce(asked.key, host(asked.remote_ip), asked.referrer, asked.user_agent) AS value,
            count(*) FILTER (WHERE asked.days_before = 0) AS requests,
            coalesce(sum(asked.bytes_sent) FILTER (WHERE asked.days_before = 0), 0) AS bytes_sent,
            count(*) FILTER (WHERE asked.days_before > 0) AS requests_before,
            coalesce(sum(asked.bytes_sent) FILTER (WHERE asked.days_before > 0), 0) AS bytes_before
        FROM (
            SELECT n AS days_before, r.key, r.remote_ip, r.referrer, r.user_agent, r.bytes_sent
            FROM generate_series(0, 7) AS n
            CROSS JOIN LATERAL (
                SELECT r.key, r.remote_ip, r.referrer, r.user_agent, r.bytes_sent
                FROM s3_log_record r
                WHERE r.bucket = of_bucket
                  AND r.request_dtime >= date_trunc('hour', in_hour, 'UTC') - n * interval '24 hours'
                  AND r.request_dtime < date_trunc('hour', in_hour, 'UTC') - n * interval '24 hours' + interval '1 hour'
                -- Keeps the planner from reading all months at once for all hours.
                OFFSET 0
            ) r
        ) asked
        GROUP BY GROUPING SETS ((asked.key), (asked.remote_ip), (asked.referrer), (asked.user_agent))
    ) counted
    WHERE counted.requests > 0;
END;
