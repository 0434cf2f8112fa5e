-- The lateness of records: a row for each configured bucket and each UTC day with requests.
--
-- The lateness of a record is the time from the request to the delivery of its log key. The time of delivery is taken
-- from the name of the log key, because a downloaded copy may have been written at any time. Only the days of a query
-- are read:
--
--     SELECT * FROM s3_delivery_lateness WHERE request_date BETWEEN '2026-03-01' AND '2026-03-07' ORDER BY 1, 2;
--
-- The days are those of the monthly partitions. Each day is read by itself, so that only its partition is read, through
-- the BRIN index. Then log keys are looked up by their ids, one by one, so the size of the ledger does not matter.
-- Lateness is counted in a histogram, because sorting a day's records takes longer.
CREATE OR REPLACE VIEW s3_delivery_lateness AS
SELECT
    late.bucket,
    CAST(day.start AS date) AS request_date,
    late.records,
    late.median_lateness,
    late.p95_lateness,
    late.max_lateness,
    late.first_delivery,
    late.last_delivery,
    now() < greatest((day.start + interval '1 day') AT TIME ZONE 'UTC', late.last_delivery) + interval '24 hours'
        AS is_open
FROM (
    -- Postgres writes and reads a bound in the time zone of the session. The DEFAULT partition has no bounds.
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
                -- The day is a column already. Only a part of the name that is certainly a time is read as one. A log
                -- key that S3 delivers by event date has midnight in its name.
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
                    right(regexp_replace(k.key, '([.](txt|log|gz|zst)){1,2}$', ''), 25) AS ending,
                    CAST(k.delivery_date AS timestamp) AT TIME ZONE 'UTC' AS midnight
            ) name
            WHERE k.id = held.log_key_id
            -- Keeps the planner from reading the whole ledger.
            OFFSET 0
        ) k
        CROSS JOIN LATERAL unnest(held.dtimes) AS request (dtime)
        GROUP BY k.bucket, k.delivered - request.dtime
    ) ranked
    GROUP BY ranked.bucket
) late;
