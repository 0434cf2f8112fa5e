-- Traffic of each day by kind and name of user agents.
--
-- Estimates: requests and bytes at the month's prices of the bucket's region (s3_monthly_price). Ask with bounds:
--
--     SELECT * FROM s3_bot_traffic WHERE bucket = 'media' AND request_date >= '2026-03-01';
CREATE OR REPLACE VIEW s3_bot_traffic AS
SELECT
    t.bucket,
    t.request_date,
    coalesce(a.kind, 'unknown') AS kind,
    a.name,
    count(*) FILTER (WHERE t.user_agent IS NOT NULL) AS user_agents,
    CAST(sum(t.requests) AS bigint) AS requests,
    sum(t.bytes_sent) AS bytes_sent,
    CAST(sum(t.error_count) AS bigint) AS error_count,
    sum(cost.requests_usd) AS estimated_requests_usd,
    sum(cost.transfer_usd) AS estimated_transfer_usd,
    sum(cost.requests_usd + cost.transfer_usd) AS estimated_usd,
    p.region AS price_region,
    p.price_date
FROM traffic_daily_by_user_agent t
LEFT JOIN user_agent_kind a ON a.user_agent = t.user_agent
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
GROUP BY t.bucket, t.request_date, 3, 4, p.region, p.price_date;

COMMENT ON VIEW s3_bot_traffic IS
    'Traffic and its estimated cost of each UTC day by kind and name of user agents: bots and people.'
    ' Ask with bounds on request_date.';
COMMENT ON COLUMN s3_bot_traffic.bucket IS 'Bucket that the requests were made to.';
COMMENT ON COLUMN s3_bot_traffic.request_date IS 'UTC day of the requests.';
COMMENT ON COLUMN s3_bot_traffic.kind IS
    'Kind of the user agent, as it claims (user_agent_kind); unknown if none was sent.';
COMMENT ON COLUMN s3_bot_traffic.name IS 'What they call themselves, without a version, if known.';
COMMENT ON COLUMN s3_bot_traffic.user_agents IS 'Distinct user agents of that name.';
COMMENT ON COLUMN s3_bot_traffic.requests IS 'Requests, billed or not.';
COMMENT ON COLUMN s3_bot_traffic.bytes_sent IS 'Bytes of their responses, billed or not.';
COMMENT ON COLUMN s3_bot_traffic.error_count IS 'Those requests that were answered with a 4xx or 5xx.';
COMMENT ON COLUMN s3_bot_traffic.estimated_requests_usd IS 'What the requests cost, as an estimate.';
COMMENT ON COLUMN s3_bot_traffic.estimated_transfer_usd IS 'What the transfer costs, as an estimate.';
COMMENT ON COLUMN s3_bot_traffic.estimated_usd IS 'Both; null until the month has prices (s3_monthly_price).';
COMMENT ON COLUMN s3_bot_traffic.price_region IS 'Region whose prices these are.';
COMMENT ON COLUMN s3_bot_traffic.price_date IS 'Day as of which the prices are right.';
