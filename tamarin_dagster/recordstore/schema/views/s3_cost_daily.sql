-- Estimated cost of each day. Every rollup by day has the same sums: that of requesters has the fewest rows.
--
-- Query it with bounds:
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
    sum(cost.total_usd) AS estimated_usd,
    cost.price_region,
    cost.price_date,
    CAST(sum(cost.unpriced_requests) AS bigint) AS unpriced_requests
FROM traffic_daily_by_requester t
LEFT JOIN LATERAL s3_estimated_cost(
    t.bucket, t.request_date, t.requests, t.put_requests, t.unbilled_requests, t.ia_transitions, t.gir_transitions,
    t.glacier_transitions, t.deep_archive_transitions, t.bytes_sent, t.unbilled_bytes, t.interregion_bytes
) cost ON true
GROUP BY t.bucket, t.request_date, cost.price_region, cost.price_date;
