-- What the keys below each prefix are estimated to cost on each day.
--
-- Estimates: requests and bytes at the month's prices of the bucket's region (s3_monthly_price). Ask with bounds:
--
--     SELECT * FROM s3_cost_by_prefix WHERE bucket = 'media' AND request_date >= '2026-03-01';
CREATE OR REPLACE VIEW s3_cost_by_prefix AS
SELECT
    t.bucket,
    t.request_date,
    CASE WHEN strpos(t.key, '/') > 0 THEN split_part(t.key, '/', 1) || '/' ELSE left(t.key, 0) END AS prefix,
    CAST(sum(t.requests) AS bigint) AS requests,
    sum(t.bytes_sent) AS bytes_sent,
    sum(cost.requests_usd) AS estimated_requests_usd,
    sum(cost.transfer_usd) AS estimated_transfer_usd,
    sum(cost.requests_usd + cost.transfer_usd) AS estimated_usd,
    p.region AS price_region,
    p.price_date
FROM traffic_daily_by_key t
LEFT JOIN s3_monthly_price p
    ON p.bucket = t.bucket AND p.month = CAST(date_trunc('month', CAST(t.request_date AS timestamp)) AS date)
CROSS JOIN LATERAL (
    SELECT
        round(
            t.put_requests * p.put_request_usd
            + (t.requests - t.put_requests - t.unbilled_requests) * p.get_request_usd,
            9
        ) AS requests_usd,
        round(
            (t.bytes_sent - t.unbilled_bytes - t.interregion_bytes) * p.internet_byte_usd
            + t.interregion_bytes * p.interregion_byte_usd,
            9
        ) AS transfer_usd
) cost
GROUP BY t.bucket, t.request_date, 3, p.region, p.price_date;

COMMENT ON VIEW s3_cost_by_prefix IS
    'Estimated cost of each UTC day by prefix. Ask with bounds on request_date.';
COMMENT ON COLUMN s3_cost_by_prefix.bucket IS 'Bucket that the requests were made to.';
COMMENT ON COLUMN s3_cost_by_prefix.request_date IS 'UTC day of the requests.';
COMMENT ON COLUMN s3_cost_by_prefix.prefix IS
    'Object key up to its first slash; empty without one, null without a key.';
COMMENT ON COLUMN s3_cost_by_prefix.requests IS 'Requests, billed or not.';
COMMENT ON COLUMN s3_cost_by_prefix.bytes_sent IS 'Bytes of their responses, billed or not.';
COMMENT ON COLUMN s3_cost_by_prefix.estimated_requests_usd IS 'What the requests cost, as an estimate.';
COMMENT ON COLUMN s3_cost_by_prefix.estimated_transfer_usd IS 'What the transfer costs, as an estimate.';
COMMENT ON COLUMN s3_cost_by_prefix.estimated_usd IS 'Both; null until the month has prices (s3_monthly_price).';
COMMENT ON COLUMN s3_cost_by_prefix.price_region IS 'Region whose prices these are.';
COMMENT ON COLUMN s3_cost_by_prefix.price_date IS 'Day as of which the prices are right.';
