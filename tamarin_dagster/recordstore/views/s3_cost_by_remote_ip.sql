-- What each address is estimated to cost on each day, and where it is.
--
-- Estimates: requests and bytes at the month's prices of the bucket's region (s3_monthly_price). Ask with bounds:
--
--     SELECT * FROM s3_cost_by_remote_ip WHERE bucket = 'media' AND request_date >= '2026-03-01';
CREATE OR REPLACE VIEW s3_cost_by_remote_ip AS
SELECT
    t.bucket,
    t.request_date,
    t.remote_ip,
    n.country,
    n.asn,
    n.network_name,
    t.requests,
    t.bytes_sent,
    cost.requests_usd AS estimated_requests_usd,
    cost.transfer_usd AS estimated_transfer_usd,
    cost.requests_usd + cost.transfer_usd AS estimated_usd,
    p.region AS price_region,
    p.price_date
FROM traffic_daily_by_remote_ip t
LEFT JOIN remote_ip_network n ON n.remote_ip = t.remote_ip
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
) cost;

COMMENT ON VIEW s3_cost_by_remote_ip IS
    'Estimated cost of each UTC day by IP address. Ask with bounds on request_date.';
COMMENT ON COLUMN s3_cost_by_remote_ip.bucket IS 'Bucket that the requests were made to.';
COMMENT ON COLUMN s3_cost_by_remote_ip.request_date IS 'UTC day of the requests.';
COMMENT ON COLUMN s3_cost_by_remote_ip.remote_ip IS 'Apparent IP address of the requester; null for S3''s own.';
COMMENT ON COLUMN s3_cost_by_remote_ip.country IS 'ISO 3166 code of its country, if known (remote_ip_network).';
COMMENT ON COLUMN s3_cost_by_remote_ip.asn IS 'Number of its network (autonomous system), if known.';
COMMENT ON COLUMN s3_cost_by_remote_ip.network_name IS 'Whose network that is, if known.';
COMMENT ON COLUMN s3_cost_by_remote_ip.requests IS 'Requests, billed or not.';
COMMENT ON COLUMN s3_cost_by_remote_ip.bytes_sent IS 'Bytes of their responses, billed or not.';
COMMENT ON COLUMN s3_cost_by_remote_ip.estimated_requests_usd IS 'What the requests cost, as an estimate.';
COMMENT ON COLUMN s3_cost_by_remote_ip.estimated_transfer_usd IS 'What the transfer costs, as an estimate.';
COMMENT ON COLUMN s3_cost_by_remote_ip.estimated_usd IS 'Both; null until the month has prices (s3_monthly_price).';
COMMENT ON COLUMN s3_cost_by_remote_ip.price_region IS 'Region whose prices these are.';
COMMENT ON COLUMN s3_cost_by_remote_ip.price_date IS 'Day as of which the prices are right.';
