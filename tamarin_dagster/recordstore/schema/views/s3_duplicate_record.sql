-- Records that S3 itself delivered more than once: every field of the line is the same, in different log keys.
--
-- S3 may write a record twice (user guide, "Best-effort server log delivery"), and nothing here removes it. A line that
-- is twice in one log key is not a duplicate: these are two requests. Query it with bounds on request_dtime:
--
--     SELECT * FROM s3_duplicate_record WHERE request_dtime >= '2026-03-05' AND request_dtime < '2026-03-06';
--
-- The first step reads few columns within these bounds, and finds the requests that are in more than one log key. The
-- second step fetches only the rows of these requests, by their place (ctid) in the table, and compares whole rows.
-- Equal times are in one partition, so the place is enough to find a row. As jsonb, two NULLs are equal, and fields of
-- later versions are included.
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
    -- The time comes first: it differs in most rows, and is the cheapest to compare.
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
