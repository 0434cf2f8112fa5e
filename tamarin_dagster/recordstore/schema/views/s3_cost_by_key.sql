-- Estimated cost of each object key on each day.
--
-- Query it with bounds:
--
--     SELECT * FROM s3_cost_by_key WHERE bucket = 'media' AND request_date >= '2026-03-01';
CREATE OR REPLACE VIEW s3_cost_by_key AS
SELECT
    t.bucket,
    t.request_date,
    t.key,
    t.requests,
    t.bytes_sent,
    cost.requests_usd AS estimated_requests_usd,
    cost.transfer_usd AS estimated_transfer_usd,
    cost.total_usd AS estimated_usd,
    cost.price_region,
    cost.price_date,
    cost.unpriced_requests,
    t.folded_values
FROM traffic_daily_by_key t
LEFT JOIN LATERAL s3_estimated_cost(
    t.bucket, t.request_date, t.requests, t.put_requests, t.unbilled_requests, t.ia_transitions, t.gir_transitions,
    t.glacier_transitions, t.deep_archive_transitions, t.bytes_sent, t.unbilled_bytes, t.interregion_bytes
) cost ON true;
