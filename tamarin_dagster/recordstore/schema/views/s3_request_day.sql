-- The UTC days that have partitions, each with its first moment and that of the next day.
--
-- Views of records read one day at a time from here. So their bounds on request_date select the partitions, and the
-- BRIN index in them, even if the view groups its rows.
CREATE OR REPLACE VIEW s3_request_day AS
SELECT
    CAST(day.start AS date) AS request_date,
    day.start AT TIME ZONE 'UTC' AS starts,
    (day.start + interval '1 day') AT TIME ZONE 'UTC' AS ends
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
CROSS JOIN LATERAL generate_series(month.first, month.following - interval '1 day', interval '1 day') AS day (start);
