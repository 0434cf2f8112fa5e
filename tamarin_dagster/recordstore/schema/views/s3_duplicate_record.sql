-- Records that S3 itself delivered more than once: every field of the line alike, in different log keys.
--
-- S3 may write a record twice (user guide, "Best-effort server log delivery"), and nothing here removes it. A line that
-- one log key holds twice is no duplicate: such are two requests. Ask with bounds on the request's time:
--
--     SELECT * FROM s3_duplicate_record WHERE request_dtime >= '2026-03-05' AND request_dtime < '2026-03-06';
--
-- First, narrow and under those bounds, which requests stand in more than one log key; then only the rows of these are
-- fetched, by their place in the table, and compared as a whole. Equal times are in one partition, so the place is
-- enough to find a row there. Rows as jsonb are alike where both have NULL, and have the fields of later versions too.
CREATE OR REPLACE VIEW s3_duplicate_record AS
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
    -- By time first: it tells most rows apart, and is the cheapest to compare.
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
