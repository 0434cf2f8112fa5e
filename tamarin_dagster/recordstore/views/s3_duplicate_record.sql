CREATE VIEW s3_duplicate_record AS
SELECT r.request_dtime, r.request_id, count(*) AS copies, array_agg(DISTINCT r.log_key_id) AS log_key_ids
FROM s3_log_record r
GROUP BY r.request_dtime, r.request_id
HAVING count(DISTINCT r.log_key_id) > 1;
