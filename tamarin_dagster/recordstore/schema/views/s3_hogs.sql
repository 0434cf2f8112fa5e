-- The consumers of a bucket in some days, compared with the others of the same days.
--
-- It is a function, because a median of days is not the median of a month: the days must be known first.
--
--     SELECT * FROM s3_hogs('media', '2026-03-01', '2026-03-31') ORDER BY bytes_sent DESC LIMIT 10;
--
-- Consumers are addresses and requesters: each request is in both kinds. Requests without an address (S3's own) or
-- without a requester (the public) are in no row, but they count in the total that shares are computed from. The same
-- holds for folded values (traffic_fold). If small consumers are folded, the median and the mean are not known.
CREATE OR REPLACE FUNCTION s3_hogs(of_bucket text, first_day date, last_day date)
RETURNS TABLE (
    kind text,
    consumer text,
    requests bigint,
    bytes_sent numeric,
    byte_share double precision,
    times_median double precision,
    times_mean double precision,
    missing_bytes numeric
)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH by_ip AS (
        SELECT t.remote_ip, CAST(sum(t.requests) AS bigint) AS requests, sum(t.bytes_sent) AS bytes_sent
        FROM traffic_daily_by_remote_ip t
        WHERE t.bucket = of_bucket AND t.request_date BETWEEN first_day AND last_day AND t.folded_values IS NULL
        GROUP BY t.remote_ip
    ),
    by_requester AS (
        SELECT t.requester, CAST(sum(t.requests) AS bigint) AS requests, sum(t.bytes_sent) AS bytes_sent
        FROM traffic_daily_by_requester t
        WHERE t.bucket = of_bucket AND t.request_date BETWEEN first_day AND last_day AND t.folded_values IS NULL
        GROUP BY t.requester
    ),
    own AS (
        SELECT
            'remote_ip' AS kind,
            sum(c.bytes_sent) AS whole,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY c.bytes_sent) FILTER (WHERE c.remote_ip IS NOT NULL) AS median,
            CAST(avg(c.bytes_sent) FILTER (WHERE c.remote_ip IS NOT NULL) AS double precision) AS mean
        FROM by_ip c
        UNION ALL
        SELECT
            'requester',
            sum(c.bytes_sent),
            percentile_cont(0.5) WITHIN GROUP (ORDER BY c.bytes_sent) FILTER (WHERE c.requester IS NOT NULL),
            CAST(avg(c.bytes_sent) FILTER (WHERE c.requester IS NOT NULL) AS double precision)
        FROM by_requester c
    ),
    usual AS (
        SELECT
            own.kind,
            CAST(nullif(own.whole + coalesce(fold.bytes_sent, 0), 0) AS double precision) AS whole,
            CASE WHEN fold.bytes_sent IS NULL THEN nullif(own.median, 0) END AS median,
            CASE WHEN fold.bytes_sent IS NULL THEN nullif(own.mean, 0) END AS mean,
            coalesce(fold.missing_bytes, 0) AS missing_bytes
        FROM own
        CROSS JOIN LATERAL (
            SELECT sum(f.bytes_sent) AS bytes_sent, sum(f.missing_bytes) AS missing_bytes
            FROM traffic_fold f
            WHERE f.bucket = of_bucket AND f.request_date BETWEEN first_day AND last_day AND f.dimension = own.kind
        ) fold
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
        consumers.bytes_sent / usual.mean,
        usual.missing_bytes
    FROM consumers
    JOIN usual ON usual.kind = consumers.kind;
END;
