-- The views and functions that revisions 0003, 0006 and 0007 made until they became repeatable, without their comments.
-- Databases that were made before then have them. Do not change this file.

-- revision 0003
CREATE VIEW s3_duplicate_record AS
SELECT
    suspect.bucket,
    suspect.request_dtime,
    suspect.request_id,
    alike.line ->> 'operation' AS operation,
    alike.line ->> 'key' AS key,
    CAST(alike.line ->> 'http_status' AS smallint) AS http_status,
    alike.copies,
    alike.log_key_ids
FROM (
    SELECT r.request_dtime, r.request_id, r.bucket, array_agg(r.ctid) AS places
    FROM s3_log_record r
    GROUP BY r.request_dtime, r.request_id, r.bucket
    HAVING min(r.log_key_id) <> max(r.log_key_id)
) suspect
CROSS JOIN LATERAL (
    SELECT
        held.line,
        CAST(sum(held.times) - max(held.times) AS bigint) AS copies,
        array_agg(held.log_key_id ORDER BY held.log_key_id) AS log_key_ids
    FROM (
        SELECT to_jsonb(r) - '{log_key_id,line_number}'::text[] AS line, r.log_key_id, count(*) AS times
        FROM s3_log_record r
        WHERE r.request_dtime = suspect.request_dtime AND r.ctid = ANY (suspect.places)
        GROUP BY 1, 2
    ) held
    GROUP BY held.line
    HAVING count(*) > 1
) alike;
COMMENT ON VIEW s3_duplicate_record IS 'made by revision 0003';
CREATE VIEW s3_delivery_lateness AS
SELECT
    told.bucket,
    CAST(day.start AS date) AS request_date,
    told.records,
    told.median_lateness,
    told.p95_lateness,
    told.max_lateness,
    told.first_delivery,
    told.last_delivery,
    now() < greatest((day.start + interval '1 day') AT TIME ZONE 'UTC', told.last_delivery) + interval '24 hours'
        AS is_open
FROM (
    SELECT
        CAST(substring(bounds FROM 'FROM \(''([^'']+)''\)') AS timestamptz) AT TIME ZONE 'UTC' AS first,
        CAST(substring(bounds FROM 'TO \(''([^'']+)''\)') AS timestamptz) AT TIME ZONE 'UTC' AS following
    FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid
    CROSS JOIN LATERAL pg_get_expr(c.relpartbound, c.oid) AS bounds
    WHERE i.inhparent = CAST('s3_log_record' AS regclass)
) month
CROSS JOIN LATERAL generate_series(month.first, month.following - interval '1 day', interval '1 day') AS day (start)
CROSS JOIN LATERAL (
    SELECT
        ranked.bucket,
        CAST(sum(ranked.n) AS bigint) AS records,
        min(ranked.lateness) FILTER (WHERE ranked.so_far >= 0.5 * ranked.total) AS median_lateness,
        min(ranked.lateness) FILTER (WHERE ranked.so_far >= 0.95 * ranked.total) AS p95_lateness,
        max(ranked.lateness) AS max_lateness,
        min(ranked.first_delivery) AS first_delivery,
        max(ranked.last_delivery) AS last_delivery
    FROM (
        SELECT
            k.bucket,
            k.delivered - request.dtime AS lateness,
            count(*) AS n,
            min(k.delivered) AS first_delivery,
            max(k.delivered) AS last_delivery,
            sum(count(*)) OVER (PARTITION BY k.bucket ORDER BY k.delivered - request.dtime) AS so_far,
            sum(count(*)) OVER (PARTITION BY k.bucket) AS total
        FROM (
            SELECT r.log_key_id, array_agg(r.request_dtime) AS dtimes
            FROM s3_log_record r
            WHERE r.request_dtime >= day.start AT TIME ZONE 'UTC'
              AND r.request_dtime < (day.start + interval '1 day') AT TIME ZONE 'UTC'
            GROUP BY r.log_key_id
        ) held
        CROSS JOIN LATERAL (
            SELECT
                k.bucket,
                CASE
                    WHEN name.ending ~ '^([01][0-9]|2[0-3])-[0-5][0-9]-[0-5][0-9]-[0-9A-Za-z]{16}$' THEN
                        CASE
                            WHEN left(name.ending, 8) = '00-00-00' THEN greatest(name.midnight, k.last_modified)
                            ELSE name.midnight + CAST(replace(left(name.ending, 8), '-', ':') AS interval)
                        END
                    ELSE k.last_modified
                END AS delivered
            FROM s3_log_key k
            CROSS JOIN LATERAL (
                SELECT
                    right(regexp_replace(k.key, '[.](gz|zst)$', ''), 25) AS ending,
                    CAST(k.delivery_date AS timestamp) AT TIME ZONE 'UTC' AS midnight
            ) name
            WHERE k.id = held.log_key_id
            OFFSET 0
        ) k
        CROSS JOIN LATERAL unnest(held.dtimes) AS request (dtime)
        GROUP BY k.bucket, k.delivered - request.dtime
    ) ranked
    GROUP BY ranked.bucket
) told;
COMMENT ON VIEW s3_delivery_lateness IS 'made by revision 0003';

-- revision 0006
CREATE VIEW s3_cost_daily AS
SELECT
    t.bucket,
    t.request_date,
    CAST(sum(t.requests) AS bigint) AS requests,
    CAST(sum(t.bytes_sent) AS bigint) AS bytes_sent,
    sum(cost.requests_usd) AS estimated_requests_usd,
    sum(cost.transfer_usd) AS estimated_transfer_usd,
    sum(cost.requests_usd + cost.transfer_usd) AS estimated_usd,
    p.region AS price_region,
    p.price_date
FROM traffic_daily_by_requester t
LEFT JOIN s3_monthly_price p
    ON p.bucket = t.bucket AND p.month = CAST(date_trunc('month', CAST(t.request_date AS timestamp)) AS date)
CROSS JOIN LATERAL (
    SELECT
        round(
            t.put_requests * p.put_request_usd
            + (t.requests - t.put_requests - t.unbilled_requests) * p.get_request_usd,
            9
        ) AS requests_usd,
        round(
            (t.bytes_sent - t.unbilled_bytes - t.interregion_bytes) * p.internet_byte_usd
            + t.interregion_bytes * p.interregion_byte_usd,
            9
        ) AS transfer_usd
) cost
GROUP BY t.bucket, t.request_date, p.region, p.price_date;
COMMENT ON VIEW s3_cost_daily IS 'made by revision 0006';
CREATE VIEW s3_cost_by_key AS
SELECT
    t.bucket,
    t.request_date,
    t.key,
    t.requests,
    t.bytes_sent,
    cost.requests_usd AS estimated_requests_usd,
    cost.transfer_usd AS estimated_transfer_usd,
    cost.requests_usd + cost.transfer_usd AS estimated_usd,
    p.region AS price_region,
    p.price_date
FROM traffic_daily_by_key t
LEFT JOIN s3_monthly_price p
    ON p.bucket = t.bucket AND p.month = CAST(date_trunc('month', CAST(t.request_date AS timestamp)) AS date)
CROSS JOIN LATERAL (
    SELECT
        round(
            t.put_requests * p.put_request_usd
            + (t.requests - t.put_requests - t.unbilled_requests) * p.get_request_usd,
            9
        ) AS requests_usd,
        round(
            (t.bytes_sent - t.unbilled_bytes - t.interregion_bytes) * p.internet_byte_usd
            + t.interregion_bytes * p.interregion_byte_usd,
            9
        ) AS transfer_usd
) cost;
COMMENT ON VIEW s3_cost_by_key IS 'made by revision 0006';
CREATE VIEW s3_cost_by_prefix AS
SELECT
    t.bucket,
    t.request_date,
    CASE WHEN strpos(t.key, '/') > 0 THEN split_part(t.key, '/', 1) || '/' ELSE left(t.key, 0) END AS prefix,
    CAST(sum(t.requests) AS bigint) AS requests,
    CAST(sum(t.bytes_sent) AS bigint) AS bytes_sent,
    sum(cost.requests_usd) AS estimated_requests_usd,
    sum(cost.transfer_usd) AS estimated_transfer_usd,
    sum(cost.requests_usd + cost.transfer_usd) AS estimated_usd,
    p.region AS price_region,
    p.price_date
FROM traffic_daily_by_key t
LEFT JOIN s3_monthly_price p
    ON p.bucket = t.bucket AND p.month = CAST(date_trunc('month', CAST(t.request_date AS timestamp)) AS date)
CROSS JOIN LATERAL (
    SELECT
        round(
            t.put_requests * p.put_request_usd
            + (t.requests - t.put_requests - t.unbilled_requests) * p.get_request_usd,
            9
        ) AS requests_usd,
        round(
            (t.bytes_sent - t.unbilled_bytes - t.interregion_bytes) * p.internet_byte_usd
            + t.interregion_bytes * p.interregion_byte_usd,
            9
        ) AS transfer_usd
) cost
GROUP BY t.bucket, t.request_date, 3, p.region, p.price_date;
COMMENT ON VIEW s3_cost_by_prefix IS 'made by revision 0006';
CREATE VIEW s3_cost_by_remote_ip AS
SELECT
    t.bucket,
    t.request_date,
    t.remote_ip,
    n.country,
    n.asn,
    n.network_name,
    t.requests,
    t.bytes_sent,
    cost.requests_usd AS estimated_requests_usd,
    cost.transfer_usd AS estimated_transfer_usd,
    cost.requests_usd + cost.transfer_usd AS estimated_usd,
    p.region AS price_region,
    p.price_date
FROM traffic_daily_by_remote_ip t
LEFT JOIN remote_ip_network n ON n.remote_ip = t.remote_ip
LEFT JOIN s3_monthly_price p
    ON p.bucket = t.bucket AND p.month = CAST(date_trunc('month', CAST(t.request_date AS timestamp)) AS date)
CROSS JOIN LATERAL (
    SELECT
        round(
            t.put_requests * p.put_request_usd
            + (t.requests - t.put_requests - t.unbilled_requests) * p.get_request_usd,
            9
        ) AS requests_usd,
        round(
            (t.bytes_sent - t.unbilled_bytes - t.interregion_bytes) * p.internet_byte_usd
            + t.interregion_bytes * p.interregion_byte_usd,
            9
        ) AS transfer_usd
) cost;
COMMENT ON VIEW s3_cost_by_remote_ip IS 'made by revision 0006';
CREATE VIEW s3_cost_by_requester AS
SELECT
    t.bucket,
    t.request_date,
    t.requester,
    t.requests,
    t.bytes_sent,
    cost.requests_usd AS estimated_requests_usd,
    cost.transfer_usd AS estimated_transfer_usd,
    cost.requests_usd + cost.transfer_usd AS estimated_usd,
    p.region AS price_region,
    p.price_date
FROM traffic_daily_by_requester t
LEFT JOIN s3_monthly_price p
    ON p.bucket = t.bucket AND p.month = CAST(date_trunc('month', CAST(t.request_date AS timestamp)) AS date)
CROSS JOIN LATERAL (
    SELECT
        round(
            t.put_requests * p.put_request_usd
            + (t.requests - t.put_requests - t.unbilled_requests) * p.get_request_usd,
            9
        ) AS requests_usd,
        round(
            (t.bytes_sent - t.unbilled_bytes - t.interregion_bytes) * p.internet_byte_usd
            + t.interregion_bytes * p.interregion_byte_usd,
            9
        ) AS transfer_usd
) cost;
COMMENT ON VIEW s3_cost_by_requester IS 'made by revision 0006';
CREATE VIEW s3_cost_by_referrer AS
SELECT
    t.bucket,
    t.request_date,
    t.referrer,
    t.requests,
    t.bytes_sent,
    cost.requests_usd AS estimated_requests_usd,
    cost.transfer_usd AS estimated_transfer_usd,
    cost.requests_usd + cost.transfer_usd AS estimated_usd,
    p.region AS price_region,
    p.price_date
FROM traffic_daily_by_referrer t
LEFT JOIN s3_monthly_price p
    ON p.bucket = t.bucket AND p.month = CAST(date_trunc('month', CAST(t.request_date AS timestamp)) AS date)
CROSS JOIN LATERAL (
    SELECT
        round(
            t.put_requests * p.put_request_usd
            + (t.requests - t.put_requests - t.unbilled_requests) * p.get_request_usd,
            9
        ) AS requests_usd,
        round(
            (t.bytes_sent - t.unbilled_bytes - t.interregion_bytes) * p.internet_byte_usd
            + t.interregion_bytes * p.interregion_byte_usd,
            9
        ) AS transfer_usd
) cost;
COMMENT ON VIEW s3_cost_by_referrer IS 'made by revision 0006';
CREATE VIEW s3_cost_by_user_agent AS
SELECT
    t.bucket,
    t.request_date,
    t.user_agent,
    coalesce(a.kind, 'unknown') AS kind,
    a.name,
    t.requests,
    t.bytes_sent,
    cost.requests_usd AS estimated_requests_usd,
    cost.transfer_usd AS estimated_transfer_usd,
    cost.requests_usd + cost.transfer_usd AS estimated_usd,
    p.region AS price_region,
    p.price_date
FROM traffic_daily_by_user_agent t
LEFT JOIN user_agent_kind a ON a.user_agent = t.user_agent
LEFT JOIN s3_monthly_price p
    ON p.bucket = t.bucket AND p.month = CAST(date_trunc('month', CAST(t.request_date AS timestamp)) AS date)
CROSS JOIN LATERAL (
    SELECT
        round(
            t.put_requests * p.put_request_usd
            + (t.requests - t.put_requests - t.unbilled_requests) * p.get_request_usd,
            9
        ) AS requests_usd,
        round(
            (t.bytes_sent - t.unbilled_bytes - t.interregion_bytes) * p.internet_byte_usd
            + t.interregion_bytes * p.interregion_byte_usd,
            9
        ) AS transfer_usd
) cost;
COMMENT ON VIEW s3_cost_by_user_agent IS 'made by revision 0006';
CREATE VIEW s3_bot_traffic AS
SELECT
    t.bucket,
    t.request_date,
    coalesce(a.kind, 'unknown') AS kind,
    a.name,
    count(*) FILTER (WHERE t.user_agent IS NOT NULL) AS user_agents,
    CAST(sum(t.requests) AS bigint) AS requests,
    CAST(sum(t.bytes_sent) AS bigint) AS bytes_sent,
    CAST(sum(t.error_count) AS bigint) AS error_count,
    sum(cost.requests_usd) AS estimated_requests_usd,
    sum(cost.transfer_usd) AS estimated_transfer_usd,
    sum(cost.requests_usd + cost.transfer_usd) AS estimated_usd,
    p.region AS price_region,
    p.price_date
FROM traffic_daily_by_user_agent t
LEFT JOIN user_agent_kind a ON a.user_agent = t.user_agent
LEFT JOIN s3_monthly_price p
    ON p.bucket = t.bucket AND p.month = CAST(date_trunc('month', CAST(t.request_date AS timestamp)) AS date)
CROSS JOIN LATERAL (
    SELECT
        round(
            t.put_requests * p.put_request_usd
            + (t.requests - t.put_requests - t.unbilled_requests) * p.get_request_usd,
            9
        ) AS requests_usd,
        round(
            (t.bytes_sent - t.unbilled_bytes - t.interregion_bytes) * p.internet_byte_usd
            + t.interregion_bytes * p.interregion_byte_usd,
            9
        ) AS transfer_usd
) cost
GROUP BY t.bucket, t.request_date, 3, 4, p.region, p.price_date;
COMMENT ON VIEW s3_bot_traffic IS 'made by revision 0006';

-- revision 0007
CREATE VIEW s3_request_day AS
SELECT
    CAST(day.start AS date) AS request_date,
    day.start AT TIME ZONE 'UTC' AS starts,
    (day.start + interval '1 day') AT TIME ZONE 'UTC' AS ends
FROM (
    SELECT
        CAST(substring(bounds FROM 'FROM \(''([^'']+)''\)') AS timestamptz) AT TIME ZONE 'UTC' AS first,
        CAST(substring(bounds FROM 'TO \(''([^'']+)''\)') AS timestamptz) AT TIME ZONE 'UTC' AS following
    FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid
    CROSS JOIN LATERAL pg_get_expr(c.relpartbound, c.oid) AS bounds
    WHERE i.inhparent = CAST('s3_log_record' AS regclass)
) month
CROSS JOIN LATERAL generate_series(month.first, month.following - interval '1 day', interval '1 day') AS day (start);
COMMENT ON VIEW s3_request_day IS 'made by revision 0007';
CREATE VIEW s3_download AS
SELECT
    session.bucket,
    day.request_date,
    session.key,
    session.remote_ip,
    session.user_agent,
    session.first_request_dtime,
    session.last_request_dtime,
    session.requests,
    session.bytes_sent,
    session.object_size,
    CASE
        WHEN session.bytes_sent >= session.object_size THEN 1
        ELSE session.bytes_sent / CAST(session.object_size AS double precision)
    END AS completeness,
    session.bytes_sent >= session.object_size AS is_complete
FROM s3_request_day day
CROSS JOIN LATERAL (
    SELECT
        numbered.bucket,
        numbered.key,
        numbered.remote_ip,
        numbered.user_agent,
        min(numbered.request_dtime) AS first_request_dtime,
        max(numbered.request_dtime) AS last_request_dtime,
        count(*) AS requests,
        CAST(coalesce(sum(numbered.bytes_sent), 0) AS bigint) AS bytes_sent,
        max(numbered.object_size) AS object_size
    FROM (
        SELECT
            asked.*,
            count(*) FILTER (WHERE asked.is_first) OVER (
                PARTITION BY asked.bucket, asked.key, asked.remote_ip, asked.user_agent ORDER BY asked.request_dtime
            ) AS session_number
        FROM (
            SELECT
                r.bucket,
                r.key,
                r.remote_ip,
                r.user_agent,
                r.request_dtime,
                r.bytes_sent,
                r.object_size,
                coalesce(
                    r.request_dtime - lag(r.request_dtime) OVER (
                        PARTITION BY r.bucket, r.key, r.remote_ip, r.user_agent ORDER BY r.request_dtime
                    ) > interval '30 minutes',
                    true
                ) AS is_first
            FROM s3_log_record r
            WHERE r.request_dtime >= day.starts - interval '30 minutes'
              AND r.request_dtime < day.ends + interval '6 hours'
              AND r.operation IN ('REST.GET.OBJECT', 'WEBSITE.GET.OBJECT', 'SOAP.GET.OBJECT')
              AND r.http_status IN (200, 206)
        ) asked
    ) numbered
    GROUP BY numbered.bucket, numbered.key, numbered.remote_ip, numbered.user_agent, numbered.session_number
) session
WHERE session.first_request_dtime >= day.starts
  AND session.first_request_dtime < day.ends;
COMMENT ON VIEW s3_download IS 'made by revision 0007';
CREATE VIEW s3_hotlink AS
SELECT
    t.bucket,
    t.request_date,
    t.referrer_host,
    count(*) AS referrers,
    CAST(sum(t.requests) AS bigint) AS requests,
    CAST(sum(t.bytes_sent) AS bigint) AS bytes_sent,
    CAST(sum(t.error_count) AS bigint) AS error_count
FROM traffic_daily_by_referrer t
LEFT JOIN (
    SELECT
        logged.name,
        logged.own_hosts,
        ARRAY(
            SELECT chr(37) || replace(substr(own.name, 2), '_', '\_')
            FROM unnest(logged.own_hosts) AS own (name)
            WHERE starts_with(own.name, '*.')
        ) AS below
    FROM s3_logged_bucket logged
    OFFSET 0
) own ON own.name = t.bucket
WHERE t.referrer IS NOT NULL
  AND NOT coalesce(
      t.referrer_host = ANY (own.own_hosts)
      OR t.referrer_host LIKE ANY (own.below)
      OR t.referrer_host = lower(t.bucket)
      OR starts_with(t.referrer_host, lower(t.bucket) || '.s3')
          AND t.referrer_host ~ '[.]s3[a-z0-9.-]*[.]amazonaws[.]com([.]cn)?$',
      false
  )
GROUP BY t.bucket, t.request_date, t.referrer_host;
COMMENT ON VIEW s3_hotlink IS 'made by revision 0007';
CREATE FUNCTION s3_hogs(of_bucket text, first_day date, last_day date)
RETURNS TABLE (
    kind text,
    consumer text,
    requests bigint,
    bytes_sent bigint,
    byte_share double precision,
    times_median double precision,
    times_mean double precision
)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH by_ip AS (
        SELECT t.remote_ip, CAST(sum(t.requests) AS bigint) AS requests, CAST(sum(t.bytes_sent) AS bigint) AS bytes_sent
        FROM traffic_daily_by_remote_ip t
        WHERE t.bucket = of_bucket AND t.request_date BETWEEN first_day AND last_day
        GROUP BY t.remote_ip
    ),
    by_requester AS (
        SELECT t.requester, CAST(sum(t.requests) AS bigint) AS requests, CAST(sum(t.bytes_sent) AS bigint) AS bytes_sent
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
COMMENT ON FUNCTION s3_hogs IS 'made by revision 0007';
CREATE FUNCTION s3_cold_objects(
    of_bucket text,
    unread_days integer DEFAULT 90,
    as_of date DEFAULT CAST(now() AT TIME ZONE 'UTC' AS date)
)
RETURNS TABLE (
    bucket text,
    key text,
    first_seen date,
    last_read date,
    last_written date,
    object_size bigint,
    days_unread integer
)
LANGUAGE sql STABLE PARALLEL SAFE
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashagg = off
SET jit = off
BEGIN ATOMIC
    SELECT
        of_bucket,
        (
            SELECT t.key
            FROM traffic_daily_by_key t
            WHERE t.bucket = of_bucket AND t.key_digest = object.key_digest AND t.request_date = object.first_seen
            LIMIT 1
        ),
        object.first_seen,
        object.last_read,
        object.last_written,
        object.sized & 140737488355327,
        as_of - coalesce(object.last_read, object.first_seen)
    FROM (
        SELECT
            t.key_digest,
            min(t.request_date) AS first_seen,
            max(t.request_date) FILTER (WHERE t.reads > 0) AS last_read,
            max(t.request_date) FILTER (WHERE t.put_requests > 0) AS last_written,
            max(t.request_date) FILTER (WHERE t.deletes > 0) AS last_deleted,
            max(
                CAST(t.request_date - DATE '2000-01-01' AS bigint) * 140737488355328
                + least(t.object_size, 140737488355327)
            ) FILTER (WHERE t.object_size IS NOT NULL) AS sized
        FROM traffic_daily_by_key t
        WHERE t.bucket = of_bucket AND t.key_digest IS NOT NULL AND t.request_date <= as_of
        GROUP BY t.key_digest
    ) object
    WHERE coalesce(object.last_read, object.first_seen) < as_of - unread_days
      AND object.sized IS NOT NULL
      AND coalesce(object.last_deleted < greatest(object.last_read, object.last_written), object.last_deleted IS NULL);
END;
COMMENT ON FUNCTION s3_cold_objects IS 'made by revision 0007';
CREATE VIEW s3_cold_object AS
SELECT
    known.bucket,
    cold.key,
    cold.first_seen,
    cold.last_read,
    cold.last_written,
    cold.object_size,
    cold.days_unread
FROM (SELECT DISTINCT d.bucket FROM traffic_day d) known
CROSS JOIN LATERAL s3_cold_objects(known.bucket) cold;
COMMENT ON VIEW s3_cold_object IS 'made by revision 0007';
CREATE VIEW s3_error AS
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
COMMENT ON VIEW s3_error IS 'made by revision 0007';
CREATE VIEW s3_spike AS
SELECT
    candidate.bucket,
    candidate.hour,
    candidate.measure,
    candidate.value,
    usual.median AS usual,
    candidate.value / nullif(usual.median, 0) AS times_usual,
    usual.deviation,
    CAST(array_length(candidate.before, 1) AS integer) AS days
FROM (
    SELECT
        measured.*,
        avg(measured.value) OVER past AS mean,
        coalesce(stddev_pop(measured.value) OVER past, 0) AS spread,
        array_agg(measured.value) OVER past AS before
    FROM (
        SELECT known.bucket, slot.hour, of_hour.measure, of_hour.value
        FROM (
            SELECT t.bucket, min(t.hour) AS first, max(t.hour) AS last
            FROM traffic_hourly t
            GROUP BY t.bucket
        ) known
        CROSS JOIN LATERAL generate_series(known.first, known.last, interval '1 hour') AS slot (hour)
        LEFT JOIN (
            SELECT
                t.bucket,
                t.hour,
                CAST(sum(t.requests) AS double precision) AS requests,
                CAST(sum(t.bytes_sent) AS double precision) AS bytes_sent
            FROM traffic_hourly t
            GROUP BY t.bucket, t.hour
        ) traffic ON traffic.bucket = known.bucket AND traffic.hour = slot.hour
        CROSS JOIN LATERAL (
            VALUES ('requests', coalesce(traffic.requests, 0)), ('bytes_sent', coalesce(traffic.bytes_sent, 0))
        ) AS of_hour (measure, value)
    ) measured
    WINDOW past AS (
        PARTITION BY measured.bucket, measured.measure, extract(hour FROM measured.hour AT TIME ZONE 'UTC')
        ORDER BY measured.hour
        ROWS BETWEEN 28 PRECEDING AND 1 PRECEDING
    )
) candidate
CROSS JOIN LATERAL (
    SELECT middle.median, percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(past.value - middle.median)) AS deviation
    FROM (
        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY past.value) AS median
        FROM unnest(candidate.before) AS past (value)
    ) middle
    CROSS JOIN unnest(candidate.before) AS past (value)
    GROUP BY middle.median
) usual
WHERE candidate.value >= CASE candidate.measure WHEN 'requests' THEN 100 ELSE 104857600 END
  AND array_length(candidate.before, 1) >= 7
  AND candidate.value >= 2 * (candidate.mean - candidate.spread)
  AND candidate.value >= 2 * usual.median
  AND candidate.value > usual.median + 6 * usual.deviation;
COMMENT ON VIEW s3_spike IS 'made by revision 0007';
CREATE FUNCTION s3_spike_causes(of_bucket text, in_hour timestamptz)
RETURNS TABLE (
    kind text,
    value text,
    requests bigint,
    bytes_sent bigint,
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
            CAST(coalesce(sum(asked.bytes_sent) FILTER (WHERE asked.days_before = 0), 0) AS bigint) AS bytes_sent,
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
                OFFSET 0
            ) r
        ) asked
        GROUP BY GROUPING SETS ((asked.key), (asked.remote_ip), (asked.referrer), (asked.user_agent))
    ) counted
    WHERE counted.requests > 0;
END;
COMMENT ON FUNCTION s3_spike_causes IS 'made by revision 0007';
CREATE VIEW s3_change AS
SELECT
    r.bucket,
    r.request_dtime,
    CASE
        WHEN r.operation IN ('S3.EXPIRE.OBJECT', 'S3.CREATE.DELETEMARKER') THEN 'expire'
        WHEN r.operation IN ('REST.DELETE.OBJECT', 'BATCH.DELETE.OBJECT', 'SOAP.DELETE.OBJECT') THEN 'delete'
        WHEN r.operation IN ('REST.COPY.OBJECT', 'SOAP.COPY.OBJECT') THEN 'copy'
        ELSE 'write'
    END AS change,
    r.key,
    r.version_id,
    r.requester,
    r.remote_ip,
    r.user_agent,
    r.operation,
    r.http_status,
    r.object_size,
    r.request_id
FROM s3_log_record r
WHERE r.operation IN (
    'REST.PUT.OBJECT', 'REST.POST.OBJECT', 'REST.POST.UPLOAD', 'REST.COPY.OBJECT', 'REST.DELETE.OBJECT',
    'BATCH.DELETE.OBJECT', 'SOAP.PUT.OBJECT', 'SOAP.COPY.OBJECT', 'SOAP.DELETE.OBJECT',
    'S3.EXPIRE.OBJECT', 'S3.CREATE.DELETEMARKER'
  )
  AND (r.http_status IS NULL OR r.http_status BETWEEN 200 AND 299)
  AND r.error_code IS NULL;
COMMENT ON VIEW s3_change IS 'made by revision 0007';
CREATE VIEW s3_anonymous_access AS
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
        CAST(coalesce(sum(r.bytes_sent), 0) AS bigint) AS bytes_sent,
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
COMMENT ON VIEW s3_anonymous_access IS 'made by revision 0007';
CREATE VIEW s3_old_tls AS
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
        r.requester,
        r.user_agent,
        r.operation,
        count(*) AS requests,
        count(*) FILTER (WHERE r.http_status >= 400) AS refused_requests,
        CAST(coalesce(sum(r.bytes_sent), 0) AS bigint) AS bytes_sent,
        count(DISTINCT r.key) AS keys,
        count(DISTINCT r.remote_ip) AS remote_ips
    FROM s3_log_record r
    WHERE r.request_dtime >= day.starts AND r.request_dtime < day.ends
      AND (
          upper(r.tls_version) IN ('SSLV2', 'SSLV3', 'TLSV1', 'TLSV1.0', 'TLSV1.1')
          OR r.tls_version IS NULL AND r.cipher_suite IS NULL AND r.host_header IS NOT NULL
              AND r.remote_ip IS NOT NULL
      )
    GROUP BY r.bucket, r.tls_version, r.requester, r.user_agent, r.operation
) found;
COMMENT ON VIEW s3_old_tls IS 'made by revision 0007';
CREATE VIEW s3_acl_dependent AS
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
        CAST(coalesce(sum(r.bytes_sent), 0) AS bigint) AS bytes_sent,
        count(DISTINCT r.key) AS keys,
        count(DISTINCT r.remote_ip) AS remote_ips
    FROM s3_log_record r
    WHERE r.request_dtime >= day.starts AND r.request_dtime < day.ends
      AND r.acl_required = 'Yes'
    GROUP BY r.bucket, r.requester, r.user_agent, r.operation
) found;
COMMENT ON VIEW s3_acl_dependent IS 'made by revision 0007';
