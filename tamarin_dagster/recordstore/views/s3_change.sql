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

COMMENT ON VIEW s3_change IS
    'Objects that were written, copied to, deleted or expired, with who did it. Ask with bounds on request_dtime.';
COMMENT ON COLUMN s3_change.bucket IS 'Bucket that the request was made to.';
COMMENT ON COLUMN s3_change.request_dtime IS 'Time at which S3 received the request (UTC).';
COMMENT ON COLUMN s3_change.change IS 'One of write, copy (to this key), delete, and expire (by a lifecycle rule).';
COMMENT ON COLUMN s3_change.key IS 'Object key, URL-encoded as S3 logs it.';
COMMENT ON COLUMN s3_change.version_id IS 'Version that was named in the request; null if none was.';
COMMENT ON COLUMN s3_change.requester IS 'Canonical user id, ARN or service; null if not authenticated.';
COMMENT ON COLUMN s3_change.remote_ip IS 'Apparent IP address of the requester; null for S3''s own.';
COMMENT ON COLUMN s3_change.user_agent IS 'HTTP User-Agent header; null if none was sent.';
COMMENT ON COLUMN s3_change.operation IS 'What was done, as INTERFACE.METHOD.RESOURCE.';
COMMENT ON COLUMN s3_change.http_status IS 'HTTP status of the response; null for S3''s own doings.';
COMMENT ON COLUMN s3_change.object_size IS 'Size of the object, in bytes; null if the line has none.';
COMMENT ON COLUMN s3_change.request_id IS 'Id that S3 gave the request; the deletions of one request share it.';
