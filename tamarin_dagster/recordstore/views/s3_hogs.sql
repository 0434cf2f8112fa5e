-- The consumers of a bucket in some days, and how they compare with the others of the same days.
--
-- A function, since a median of days is no median of a month: the days must be known before anything is compared.
--
--     SELECT * FROM s3_hogs('media', '2026-03-01', '2026-03-31') ORDER BY bytes_sent DESC LIMIT 10;
--
-- Consumers are addresses, and requesters: each request is in both kinds. What has no address (S3's own doings) or no
-- requester (the public) is nobody, and is in no row; it is in the whole that shares are of.
CREATE OR REPLACE FUNCTION s3_hogs(of_bucket text, first_day date, last_day date)
RETURNS TABLE (
    kind text,
    consumer text,
    requests bigint,
    bytes_sent numeric,
    byte_share double precision,
    times_median double precision,
    times_mean double precision
)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH by_ip AS (
        SELECT t.remote_ip, CAST(sum(t.requests) AS bigint) AS requests, sum(t.bytes_sent) AS bytes_sent
        FROM traffic_daily_by_remote_ip t
        WHERE t.bucket = of_bucket AND t.request_date BETWEEN first_day AND last_day
        GROUP BY t.remote_ip
    ),
    by_requester AS (
        SELECT t.requester, CAST(sum(t.requests) AS bigint) AS requests, sum(t.bytes_sent) AS bytes_sent
        FROM traffic_daily_by_requester t
        WHERE t.bucket = of_bucket AND t.request_date BETWEEN first_day AND last_day
        GROUP BY t.requester
    ),
    usual AS (
        SELECT
            'remote_ip' AS kind,
            CAST(nullif(sum(c.bytes_sent), 0) AS double precision) AS whole,
            nullif(percentile_cont(0.5) WITHIN GROUP (ORDER BY c.bytes_sent) FILTER (WHERE c.remote_ip IS NOT NULL), 0)
                AS median,
            CAST(nullif(avg(c.bytes_sent) FILTER (WHERE c.remote_ip IS NOT NULL), 0) AS double precision) AS mean
        FROM by_ip c
        UNION ALL
        SELECT
            'requester',
            CAST(nullif(sum(c.bytes_sent), 0) AS double precision),
            nullif(percentile_cont(0.5) WITHIN GROUP (ORDER BY c.bytes_sent) FILTER (WHERE c.requester IS NOT NULL), 0),
            CAST(nullif(avg(c.bytes_sent) FILTER (WHERE c.requester IS NOT NULL), 0) AS double precision)
        FROM by_requester c
    ),
    consumers AS (
        SELECT 'remote_ip' AS kind, host(c.remote_ip) AS consumer, c.requests, c.bytes_sent
        FROM by_ip c
        WHERE c.remote_ip IS NOT NULL
        UNION ALL
        SELECT 'requester', c.requester, c.requests, c.bytes_sent
        FROM by_requester c
        WHERE c.requester IS NOT NULL
    )
    SELECT
        consumers.kind,
        consumers.consumer,
        consumers.requests,
        consumers.bytes_sent,
        consumers.bytes_sent / usual.whole,
        consumers.bytes_sent / usual.median,
        consumers.bytes_sent / usual.mean
    FROM consumers
    JOIN usual ON usual.kind = consumers.kind;
END;

COMMENT ON FUNCTION s3_hogs IS
    'The consumers of a bucket in the days from the first to the last, by address and by requester, beside the others.';
