-- What nobody has read for 90 days. For other days: s3_cold_objects, which tells what is known here and what is not.
CREATE OR REPLACE VIEW s3_cold_object AS
SELECT
    known.bucket,
    cold.key,
    cold.first_seen,
    cold.last_read,
    cold.last_written,
    cold.object_size,
    cold.days_unread
FROM (SELECT DISTINCT d.bucket FROM traffic_day d) known
CROSS JOIN LATERAL s3_cold_objects(known.bucket) cold;

COMMENT ON VIEW s3_cold_object IS
    'Objects that nobody has read for 90 days, as far as requests for them are in the logs.';
COMMENT ON COLUMN s3_cold_object.bucket IS 'Bucket of the object.';
COMMENT ON COLUMN s3_cold_object.key IS 'Object key, URL-encoded as S3 logs it.';
COMMENT ON COLUMN s3_cold_object.first_seen IS 'UTC day of the first request for it in the logs.';
COMMENT ON COLUMN s3_cold_object.last_read IS 'UTC day on which it was last read; null if it never was.';
COMMENT ON COLUMN s3_cold_object.last_written IS 'UTC day on which it was last written; null if the logs have none.';
COMMENT ON COLUMN s3_cold_object.object_size IS 'Size of the object on the last day that tells one, in bytes.';
COMMENT ON COLUMN s3_cold_object.days_unread IS 'Days since it was last read, or first seen if it never was.';
