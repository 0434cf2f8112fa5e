-- Estimated cost of the requests and bytes of a row, at the prices of their month (s3_monthly_price).
--
-- The views of cost and of bots call it for each row of a rollup. It returns no row if the month has no prices, so use
-- LEFT JOIN LATERAL ... ON true. If a price list has no prices for transitions, these requests are left out, and
-- counted as unpriced.
CREATE OR REPLACE FUNCTION s3_estimated_cost(
    of_bucket text,
    request_date date,
    requests bigint,
    put_requests bigint,
    unbilled_requests bigint,
    ia_transitions bigint,
    gir_transitions bigint,
    glacier_transitions bigint,
    deep_archive_transitions bigint,
    bytes_sent numeric,
    unbilled_bytes numeric,
    interregion_bytes numeric
)
RETURNS TABLE (
    requests_usd numeric,
    transfer_usd numeric,
    total_usd numeric,
    price_region text,
    price_date date,
    unpriced_requests bigint
)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT cost.requests_usd, cost.transfer_usd, cost.requests_usd + cost.transfer_usd, p.region, p.price_date,
        CASE
            WHEN coalesce(ia_transitions, gir_transitions, glacier_transitions, deep_archive_transitions) IS NULL THEN 0
            ELSE
                CASE WHEN p.ia_transition_usd IS NULL THEN coalesce(ia_transitions, 0) ELSE 0 END
                + CASE WHEN p.gir_transition_usd IS NULL THEN coalesce(gir_transitions, 0) ELSE 0 END
                + CASE WHEN p.glacier_transition_usd IS NULL THEN coalesce(glacier_transitions, 0) ELSE 0 END
                + CASE WHEN p.deep_archive_transition_usd IS NULL THEN coalesce(deep_archive_transitions, 0) ELSE 0 END
        END
    FROM s3_monthly_price p
    CROSS JOIN LATERAL (
        SELECT
            round(
                put_requests * p.put_request_usd
                + (
                    requests - put_requests - unbilled_requests - coalesce(ia_transitions, 0)
                    - coalesce(gir_transitions, 0) - coalesce(glacier_transitions, 0)
                    - coalesce(deep_archive_transitions, 0)
                ) * p.get_request_usd
                + coalesce(ia_transitions * p.ia_transition_usd, 0)
                + coalesce(gir_transitions * p.gir_transition_usd, 0)
                + coalesce(glacier_transitions * p.glacier_transition_usd, 0)
                + coalesce(deep_archive_transitions * p.deep_archive_transition_usd, 0),
                9
            ) AS requests_usd,
            round(
                (bytes_sent - unbilled_bytes - interregion_bytes) * p.internet_byte_usd
                + interregion_bytes * p.interregion_byte_usd,
                9
            ) AS transfer_usd
    ) cost
    WHERE p.bucket = of_bucket
      AND p.month = CAST(date_trunc('month', CAST(request_date AS timestamp)) AS date);
END;
