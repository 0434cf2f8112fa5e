-- Objects of a bucket that nobody has read for a number of days before a day: for other periods than s3_cold_object.
--
--     SELECT * FROM s3_cold_objects('media', 365) ORDER BY object_size DESC LIMIT 20;
--
-- The rollups know objects only by their requests. So an object without any request is not known here, and an object is
-- as old as its first request in the logs. Two kinds of objects are left out: those deleted since they were last read
-- or written (also on the same day: the rollups have no times of day, and it is usually a temporary file), and names
-- without a size in any request, such as those that were always answered with 404.
--
-- A folded row (folded_values) names none of its keys. So on a day with folded rows, an object may have been read or
-- deleted unseen. last_folded is the last of these days: everything after it is exact.
--
-- Keys are grouped by their digests, in the order of an index that has all other columns, too. Names are looked up only
-- for cold objects. The planner would prefer to group by hash, which takes three times as long.
CREATE OR REPLACE FUNCTION s3_cold_objects(
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
    days_unread integer,
    last_folded date
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
              AND t.folded_values IS NULL
            LIMIT 1
        ),
        object.first_seen,
        object.last_read,
        object.last_written,
        object.sized & 140737488355327,
        as_of - coalesce(object.last_read, object.first_seen),
        (
            SELECT max(f.request_date)
            FROM traffic_fold f
            WHERE f.bucket = of_bucket AND f.dimension = 'key' AND f.request_date <= as_of
        )
    FROM (
        SELECT
            t.key_digest,
            min(t.request_date) AS first_seen,
            max(t.request_date) FILTER (WHERE t.reads > 0) AS last_read,
            max(t.request_date) FILTER (WHERE t.put_requests > 0) AS last_written,
            max(t.request_date) FILTER (WHERE t.deletes > 0) AS last_deleted,
            -- The size on the last day that has one: the day is in the upper bits, the size in the lower 47 (128 TiB).
            -- Sorting by day takes twice as long.
            max(
                CAST(t.request_date - DATE '2000-01-01' AS bigint) * 140737488355328
                + least(t.object_size, 140737488355327)
            ) FILTER (WHERE t.object_size IS NOT NULL) AS sized
        FROM traffic_daily_by_key t
        WHERE t.bucket = of_bucket AND t.key_digest IS NOT NULL AND t.request_date <= as_of
          AND t.folded_values IS NULL
        GROUP BY t.key_digest
    ) object
    WHERE coalesce(object.last_read, object.first_seen) < as_of - unread_days
      AND object.sized IS NOT NULL
      AND coalesce(object.last_deleted < greatest(object.last_read, object.last_written), object.last_deleted IS NULL);
END;
