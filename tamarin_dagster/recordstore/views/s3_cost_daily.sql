-- What each day is estimated to cost. Any rollup sums up to it: that of requesters has the fewest rows.
--
-- Estimates: requests and bytes at the month's prices of the bucket's region (s3_monthly_price). Ask with bounds:
--
--     SELECT * FROM s3_cost_daily WHERE bucket = 'media' AND request_date >= '2026-03-01';
CREATE OR REPLACE VIEW s3_cost_daily AS
SELECT
    t.bucket,
    t.request_date,
    CAST(sum(t.requests) AS bigint) AS requests,
    sum(t.bytes_sent) AS bytes_sent,
    sum(cost.requests_usd) AS estimated_requests_usd,
    sum(cost.transfer_usd) AS estimated_transfer_usd,
    sum(cost.requests_usd + cost.transfer_usd) AS estimated_usd,
    p.region AS price_region,
    p.price_date
FROM traffic_daily_by_requester t
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
GROUP BY t.bucket, t.request_date, p.region, p.price_date;

COMMENT ON VIEW s3_cost_daily IS
    'Estimated cost of each UTC day by bucket. Ask with bounds on request_date.';
COMMENT ON COLUMN s3_cost_daily.bucket IS 'Bucket that the requests were made to.';
COMMENT ON COLUMN s3_cost_daily.request_date IS 'UTC day of the requests.';
COMMENT ON COLUMN s3_cost_daily.requests IS 'Requests, billed or not.';
COMMENT ON COLUMN s3_cost_daily.bytes_sent IS 'Bytes of their responses, billed or not.';
COMMENT ON COLUMN s3_cost_daily.estimated_requests_usd IS 'What the requests cost, as an estimate.';
COMMENT ON COLUMN s3_cost_daily.estimated_transfer_usd IS 'What the transfer costs, as an estimate.';
COMMENT ON COLUMN s3_cost_daily.estimated_usd IS 'Both; null until the month has prices (s3_monthly_price).';
COMMENT ON COLUMN s3_cost_daily.price_region IS 'Region whose prices these are.';
COMMENT ON COLUMN s3_cost_daily.price_date IS 'Day as of which the prices are right.';
