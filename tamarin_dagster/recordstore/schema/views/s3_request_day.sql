-- The UTC days for which there are partitions, each with its first moment and the next day's.
--
-- Views over records take a day at a time from here: so their bounds on request_date reach the partitions, and the BRIN
-- index in them, through whatever they group by.
CREATE OR REPLACE VIEW s3_request_day AS
SELECT
    CAST(day.start AS date) AS request_date,
    day.start AT TIME ZONE 'UTC' AS starts,
    (day.start + interval '1 day') AT TIME ZONE 'UTC' AS ends
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
CROSS JOIN LATERAL generate_series(month.first, month.following - interval '1 day', interval '1 day') AS day (start);
