-- Downloads, counted as a person would: a file that was read in two hundred ranges is one.
--
-- A download is what one address with one user agent read of one object, as long as no more than 30 minutes pass
-- between a request and the next: a player that has filled its buffer asks again within minutes, and web statistics end
-- a visit after the same half hour. It belongs to the UTC day on which it began, and is counted there once, however late
-- it ends; what comes more than six hours after that day's end is not added up. A 304 is no download, nor is a HEAD.
--
--     SELECT * FROM s3_download WHERE bucket = 'media' AND request_date = '2026-03-05';
--
-- S3 does not log which range was asked for, so ranges that overlap, and a file that was fetched twice in one session,
-- are added up: completeness is at most what was read of the file, and never above 1.
CREATE OR REPLACE VIEW s3_download AS
SELECT
    session.bucket,
    day.request_date,
    session.key,
    session.remote_ip,
    session.user_agent,
    session.first_request_dtime,
    session.last_request_dtime,
    session.requests,
    session.bytes_sent,
    session.object_size,
    CASE
        WHEN session.bytes_sent >= session.object_size THEN 1
        ELSE session.bytes_sent / CAST(session.object_size AS double precision)
    END AS completeness,
    session.bytes_sent >= session.object_size AS is_complete
FROM s3_request_day day
CROSS JOIN LATERAL (
    SELECT
        numbered.bucket,
        numbered.key,
        numbered.remote_ip,
        numbered.user_agent,
        min(numbered.request_dtime) AS first_request_dtime,
        max(numbered.request_dtime) AS last_request_dtime,
        count(*) AS requests,
        coalesce(sum(numbered.bytes_sent), 0) AS bytes_sent,
        max(numbered.object_size) AS object_size
    FROM (
        SELECT
            asked.*,
            count(*) FILTER (WHERE asked.is_first) OVER (
                PARTITION BY asked.bucket, asked.key, asked.remote_ip, asked.user_agent ORDER BY asked.request_dtime
            ) AS session_number
        FROM (
            SELECT
                r.bucket,
                r.key,
                r.remote_ip,
                r.user_agent,
                r.request_dtime,
                r.bytes_sent,
                r.object_size,
                coalesce(
                    r.request_dtime - lag(r.request_dtime) OVER (
                        PARTITION BY r.bucket, r.key, r.remote_ip, r.user_agent ORDER BY r.request_dtime
                    ) > interval '30 minutes',
                    true
                ) AS is_first
            FROM s3_log_record r
            -- Half an hour before the day tells whether its first request begins a session.
            WHERE r.request_dtime >= day.starts - interval '30 minutes'
              AND r.request_dtime < day.ends + interval '6 hours'
              AND s3_is_download(r.operation)
              AND r.http_status IN (200, 206)
        ) asked
    ) numbered
    GROUP BY numbered.bucket, numbered.key, numbered.remote_ip, numbered.user_agent, numbered.session_number
) session
WHERE session.first_request_dtime >= day.starts
  AND session.first_request_dtime < day.ends;
