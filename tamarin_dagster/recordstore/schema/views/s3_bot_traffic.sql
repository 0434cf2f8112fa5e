-- Traffic and estimated cost of each day, by kind and name of user agents.
--
-- Query it with bounds:
--
--     SELECT * FROM s3_bot_traffic WHERE bucket = 'media' AND request_date >= '2026-03-01';
CREATE OR REPLACE VIEW s3_bot_traffic AS
SELECT
    t.bucket,
    t.request_date,
    coalesce(a.kind, 'unknown') AS kind,
    a.name,
    CAST(coalesce(sum(coalesce(t.folded_values, 1)) FILTER (WHERE t.user_agent IS NOT NULL), 0) AS bigint) AS user_agents,
    CAST(sum(t.requests) AS bigint) AS requests,
    sum(t.bytes_sent) AS bytes_sent,
    CAST(sum(t.error_count) AS bigint) AS error_count,
    sum(cost.requests_usd) AS estimated_requests_usd,
    sum(cost.transfer_usd) AS estimated_transfer_usd,
    sum(cost.total_usd) AS estimated_usd,
    cost.price_region,
    cost.price_date,
    CAST(sum(cost.unpriced_requests) AS bigint) AS unpriced_requests,
    CAST(sum(t.folded_values) AS bigint) AS folded_values
FROM traffic_daily_by_user_agent t
LEFT JOIN user_agent_kind a ON a.user_agent = t.user_agent AND t.folded_values IS NULL
LEFT JOIN LATERAL s3_estimated_cost(
    t.bucket, t.request_date, t.requests, t.put_requests, t.unbilled_requests, t.ia_transitions, t.gir_transitions,
    t.glacier_transitions, t.deep_archive_transitions, t.bytes_sent, t.unbilled_bytes, t.interregion_bytes
) cost ON true
GROUP BY t.bucket, t.request_date, 3, 4, cost.price_region, cost.price_date;
