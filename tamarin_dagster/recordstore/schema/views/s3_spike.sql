-- Hours with far more traffic than usual, by the baseline that the checks bandwidth and requests use, too.
--
-- Usual is the median of the same hour on the known days of the four weeks before, or on the same days of the week,
-- whichever allows more. An hour is a spike above the largest of: six median absolute deviations (as standard deviations)
-- above the median, twice the median, and the median plus 1 GB or 10,000 requests. Hours without requests count as 0;
-- 14 days before must be known. A former spike among the days changes little.
--
--     SELECT * FROM s3_spike WHERE bucket = 'media' AND hour >= '2026-03-01' ORDER BY times_usual DESC LIMIT 10;
--
-- Why there was one: s3_spike_causes.
--
-- Medians are costly, and hours are many. A median is never more than a standard deviation from the mean, which windows
-- compute quickly: what is below twice their difference is below twice the median, and no spike.
CREATE OR REPLACE VIEW s3_spike AS
SELECT
    candidate.bucket,
    candidate.hour,
    candidate.measure,
    candidate.value,
    baseline.usual,
    candidate.value / nullif(baseline.usual, 0) AS times_usual,
    baseline.deviation,
    CAST(cardinality(candidate.of_days) AS integer) AS days
FROM (
    SELECT
        measured.*,
        avg(measured.value) OVER days AS mean,
        coalesce(stddev_pop(measured.value) OVER days, 0) AS spread,
        array_agg(measured.value) OVER days AS of_days,
        array_agg(measured.utc_hour) OVER days AS days_before
    FROM (
        SELECT
            traffic.bucket,
            traffic.hour,
            traffic.hour AT TIME ZONE 'UTC' AS utc_hour,
            of_hour.measure,
            of_hour.value
        FROM (
            SELECT
                each.bucket,
                each.hour,
                CAST(sum(each.requests) AS double precision) AS requests,
                CAST(sum(each.bytes_sent) AS double precision) AS bytes_sent
            FROM (
                SELECT t.bucket, t.hour, t.requests, t.bytes_sent
                FROM traffic_hourly t
                UNION ALL
                -- Hours without requests. Not a join: without statistics that compares each hour with every other.
                SELECT span.bucket, (known.day + make_interval(hours => slot.number)) AT TIME ZONE 'UTC', 0, 0
                FROM (
                    SELECT
                        t.bucket,
                        CAST(min(t.hour) AT TIME ZONE 'UTC' AS date) AS first,
                        CAST(max(t.hour) AT TIME ZONE 'UTC' AS date) AS last
                    FROM traffic_hourly t
                    GROUP BY t.bucket
                ) span
                CROSS JOIN LATERAL s3_known_days(span.bucket, span.first, span.last) AS known (day)
                CROSS JOIN generate_series(0, 23) AS slot (number)
            ) each
            GROUP BY each.bucket, each.hour
        ) traffic
        CROSS JOIN LATERAL (
            VALUES ('requests', traffic.requests), ('bytes_sent', traffic.bytes_sent)
        ) AS of_hour (measure, value)
    ) measured
    WINDOW days AS (
        PARTITION BY measured.bucket, measured.measure, extract(hour FROM measured.utc_hour)
        ORDER BY measured.utc_hour
        RANGE BETWEEN interval '28 days' PRECEDING AND interval '1 day' PRECEDING
    )
) candidate
CROSS JOIN LATERAL s3_baseline(
    candidate.measure,
    candidate.of_days,
    ARRAY(
        SELECT before.value
        FROM unnest(candidate.of_days, candidate.days_before) AS before (value, utc_hour)
        WHERE extract(isodow FROM before.utc_hour) = extract(isodow FROM candidate.utc_hour)
    )
) AS baseline
WHERE candidate.value >= 2 * (candidate.mean - candidate.spread)
  AND candidate.value > baseline.upper_limit;
