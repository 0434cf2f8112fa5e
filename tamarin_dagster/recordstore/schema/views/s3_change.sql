-- Who wrote, overwrote or deleted what: one row for each change of an object that was carried out.
--
--     SELECT * FROM s3_change WHERE request_dtime >= '2026-03-05' AND request_dtime < '2026-03-06' AND key = 'a.mp4';
--
-- Whether a write was an overwrite S3 does not tell: it is one if the key was there before. A DELETE of a key that never
-- was is answered 204 too. Deletions of one multi-object request share its request id. S3's own expiry has no status.
CREATE OR REPLACE VIEW s3_change AS
SELECT
    r.bucket,
    r.request_dtime,
    s3_object_change(r.operation) AS change,
    s3_rest_key(r.key, r.operation) AS key,
    r.version_id,
    CASE WHEN NOT s3_is_anonymous(r.requester) THEN r.requester END AS requester,
    r.remote_ip,
    r.user_agent,
    r.operation,
    r.http_status,
    r.object_size,
    r.request_id
FROM s3_log_record r
WHERE s3_object_change(r.operation) IS NOT NULL
  AND coalesce(r.http_status, 204) BETWEEN 200 AND 299
  AND NOT s3_is_error(r.http_status, r.error_code);
