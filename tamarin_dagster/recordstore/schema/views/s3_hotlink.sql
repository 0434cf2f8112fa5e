-- Hotlinks: the hosts whose pages sent visitors to a bucket's files, without the bucket's own hosts.
--
-- Its own hosts are `own_hosts` of the settings (s3_logged_bucket), the bucket's name, and its endpoints in S3. A name
-- in own_hosts matches one host, and `*.example.org` matches every host below example.org. Requests whose header names
-- no host are in a row without a host. Requests without the header are in no row.
--
--     SELECT referrer_host, sum(bytes_sent) FROM s3_hotlink
--     WHERE bucket = 'media' AND request_date >= '2026-03-01' GROUP BY 1 ORDER BY 2 DESC LIMIT 10;
--
CREATE OR REPLACE VIEW s3_hotlink AS
SELECT
    t.bucket,
    t.request_date,
    t.referrer_host,
    CAST(sum(coalesce(t.folded_values, 1)) AS bigint) AS referrers,
    CAST(sum(t.requests) AS bigint) AS requests,
    sum(t.bytes_sent) AS bytes_sent,
    CAST(sum(t.error_count) AS bigint) AS error_count,
    CAST(sum(t.folded_values) AS bigint) AS folded_values
FROM traffic_daily_by_referrer t
LEFT JOIN (
    SELECT
        logged.name,
        logged.own_hosts,
        ARRAY(
            SELECT '%' || replace(substr(own.name, 2), '_', '\_')
            FROM unnest(logged.own_hosts) AS own (name)
            WHERE starts_with(own.name, '*.')
        ) AS below
    FROM s3_logged_bucket logged
    -- Computes this once for each bucket instead of once for each row.
    OFFSET 0
) own ON own.name = t.bucket
WHERE t.referrer IS NOT NULL
  AND NOT coalesce(
      t.referrer_host = ANY (own.own_hosts)
      OR t.referrer_host LIKE ANY (own.below)
      OR t.referrer_host = lower(t.bucket)
      OR starts_with(t.referrer_host, lower(t.bucket) || '.s3')
          AND t.referrer_host ~ '[.]s3[a-z0-9.-]*[.]amazonaws[.]com([.]cn)?$',
      false
  )
GROUP BY t.bucket, t.request_date, t.referrer_host;
