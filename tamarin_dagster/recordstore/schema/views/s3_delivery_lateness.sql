-- How late records came: a row for each configured bucket and each UTC day on which requests were made.
--
-- The lateness of a record is the time from the request to the delivery of its log key, which the key's name tells; a
-- downloaded copy was written whenever it was. Ask for days, and no others are read:
--
--     SELECT * FROM s3_delivery_lateness WHERE request_date BETWEEN '2026-03-01' AND '2026-03-07' ORDER BY 1, 2;
--
-- The days are those of the monthly partitions. Each day is asked for by itself, so that its partition alone is read,
-- and by the BRIN index. Log keys are then looked up by their ids, one by one, whatever else the ledger holds; lateness
-- is counted in a histogram, since to sort a day's records takes longer.
CREATE OR REPLACE VIEW s3_delivery_lateness AS
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
    -- A bound is shown, and read again, in the session's own time zone. DEFAULT has none.
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
                -- The day is a column already, and of the name only what is a time for sure is read as one. A key that
                -- S3 delivers by event date has midnight in its name.
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
            -- Keeps the planner from reading the whole ledger for it.
            OFFSET 0
        ) k
        CROSS JOIN LATERAL unnest(held.dtimes) AS request (dtime)
        GROUP BY k.bucket, k.delivered - request.dtime
    ) ranked
    GROUP BY ranked.bucket
) told;
