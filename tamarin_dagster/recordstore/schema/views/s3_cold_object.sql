-- Objects that nobody has read for 90 days. For other periods, use s3_cold_objects, which says what is known here.
CREATE OR REPLACE VIEW s3_cold_object AS
SELECT
    known.bucket,
    cold.key,
    cold.first_seen,
    cold.last_read,
    cold.last_written,
    cold.object_size,
    cold.days_unread,
    cold.last_folded
FROM (SELECT DISTINCT d.bucket FROM traffic_day d) known
CROSS JOIN LATERAL s3_cold_objects(known.bucket) cold;
