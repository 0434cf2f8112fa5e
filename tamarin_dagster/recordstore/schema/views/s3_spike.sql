-- Hours with far more traffic than the same hour of the four weeks before.
--
-- A measure of an hour (its requests, or its bytes) is a spike where it is above the median of the same hour of the 28
-- days before by more than six times their median deviation from it (in a normal spread, four standard deviations), at
-- least twice that median, and no trifle: 100 requests, 100 MiB. Median and deviation do not mind a former spike among
-- the days. Hours without requests count as 0; seven of the days must lie after the bucket's first request.
--
--     SELECT * FROM s3_spike WHERE bucket = 'media' AND hour >= '2026-03-01' ORDER BY times_usual DESC LIMIT 10;
--
-- Why there was one: s3_spike_causes.
--
-- Medians are costly, and hours are many. A median is never more than a standard deviation from the mean, which windows
-- count quickly: whatever is below twice their difference is below twice the median, and no spike.
CREATE OR REPLACE VIEW s3_spike AS
SELECT
    candidate.bucket,
    candidate.hour,
    candidate.measure,
    candidate.value,
    usual.median AS usual,
    candidate.value / nullif(usual.median, 0) AS times_usual,
    usual.deviation,
    CAST(array_length(candidate.before, 1) AS integer) AS days
FROM (
    SELECT
        measured.*,
        avg(measured.value) OVER past AS mean,
        coalesce(stddev_pop(measured.value) OVER past, 0) AS spread,
        array_agg(measured.value) OVER past AS before
    FROM (
        SELECT known.bucket, slot.hour, of_hour.measure, of_hour.value
        FROM (
            SELECT t.bucket, min(t.hour) AS first, max(t.hour) AS last
            FROM traffic_hourly t
            GROUP BY t.bucket
        ) known
        CROSS JOIN LATERAL generate_series(known.first, known.last, interval '1 hour') AS slot (hour)
        LEFT JOIN (
            SELECT
                t.bucket,
                t.hour,
                CAST(sum(t.requests) AS double precision) AS requests,
                CAST(sum(t.bytes_sent) AS double precision) AS bytes_sent
            FROM traffic_hourly t
            GROUP BY t.bucket, t.hour
        ) traffic ON traffic.bucket = known.bucket AND traffic.hour = slot.hour
        CROSS JOIN LATERAL (
            VALUES ('requests', coalesce(traffic.requests, 0)), ('bytes_sent', coalesce(traffic.bytes_sent, 0))
        ) AS of_hour (measure, value)
    ) measured
    WINDOW past AS (
        PARTITION BY measured.bucket, measured.measure, extract(hour FROM measured.hour AT TIME ZONE 'UTC')
        ORDER BY measured.hour
        ROWS BETWEEN 28 PRECEDING AND 1 PRECEDING
    )
) candidate
CROSS JOIN LATERAL (
    SELECT middle.median, percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(past.value - middle.median)) AS deviation
    FROM (
        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY past.value) AS median
        FROM unnest(candidate.before) AS past (value)
    ) middle
    CROSS JOIN unnest(candidate.before) AS past (value)
    GROUP BY middle.median
) usual
WHERE candidate.value >= CASE candidate.measure WHEN 'requests' THEN 100 ELSE 104857600 END
  AND array_length(candidate.before, 1) >= 7
  AND candidate.value >= 2 * (candidate.mean - candidate.spread)
  AND candidate.value >= 2 * usual.median
  AND candidate.value > usual.median + 6 * usual.deviation;
