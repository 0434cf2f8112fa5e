CREATE VIEW s3_delivery_lateness AS
SELECT bucket, delivery_date AS request_date FROM s3_log_key;
