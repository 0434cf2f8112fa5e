-- A day's traffic by hour, kind of operation and status, from its sums by hour, operation, status and the time that the
-- requests took: so percentiles are counted out, where sorting the day's records would take longer than all else.
WITH operation_class AS (
    -- Once for each operation, of which there are few: to match a pattern takes longer than all that is done with a row.
    SELECT
        operation,
        CASE
            WHEN operation ~ '^S3[.]' THEN 'lifecycle'
            WHEN operation ~ '[.]DELETE[.]|^REST[.]POST[.]MULTI_OBJECT_DELETE$' THEN 'delete'
            WHEN operation ~ '^REST[.](PUT|POST|COPY)[.]' THEN 'write'
            WHEN operation ~ '^REST[.]GET[.](BUCKET|BUCKETVERSIONS|UPLOADS?)$' THEN 'list'
            WHEN operation ~ '[.](GET|HEAD)[.]OBJECT$' THEN 'read'
            ELSE 'other'
        END AS name
    FROM (SELECT DISTINCT operation FROM traffic_sums WHERE grouped_by = 'hour') known
), classed AS (
    SELECT
        hour, coalesce(class.name, 'other') AS operation_class, CAST(http_status / 100 AS smallint) AS status_class,
        total_time, sum(requests) AS requests, sum(bytes_sent) AS bytes_sent, sum(error_count) AS error_count
    FROM traffic_sums
    LEFT JOIN operation_class class USING (operation)
    WHERE grouped_by = 'hour'
    GROUP BY 1, 2, 3, 4
), ranked AS (
    SELECT
        classed.*,
        sum(requests) FILTER (WHERE total_time IS NOT NULL) OVER timed AS so_far,
        sum(requests) FILTER (WHERE total_time IS NOT NULL) OVER
            (PARTITION BY hour, operation_class, status_class) AS all_timed
    FROM classed
    WINDOW timed AS (PARTITION BY hour, operation_class, status_class ORDER BY total_time)
)
SELECT
    CAST(:bucket AS text) AS bucket, hour, operation_class, status_class,
    CAST(sum(requests) AS bigint) AS requests,
    sum(bytes_sent) AS bytes_sent,
    CAST(sum(error_count) AS bigint) AS error_count,
    min(total_time) FILTER (WHERE so_far >= 0.50 * all_timed) AS p50_total_time,
    min(total_time) FILTER (WHERE so_far >= 0.95 * all_timed) AS p95_total_time,
    max(total_time) AS max_total_time
FROM ranked
GROUP BY hour, operation_class, status_class
