-- Rollups as 10 million records of a bucket leave them in a year: 27,400 requests a day, of :values keys, addresses,
-- half as many user agents and a third as many referrers; half of them are those of every day.
INSERT INTO traffic_daily_by_key
SELECT
    'media', day, 'photos/2026/album-' || item.id % 97 || '/' || item.id || '.jpg', item.requests,
    item.requests * item.size, item.requests / 50, n % 40 / 39, 0, 0, 0, item.requests, 0, item.size
FROM
    generate_series(CAST(:first AS date), CAST(:last AS date), interval '1 day') AS day,
    generate_series(1, :values) AS n,
    LATERAL (
        SELECT CASE WHEN n <= :values / 2 THEN n ELSE (hashint8(n * 100000 + CAST(extract(epoch FROM day) AS bigint) / 86400) & 2147483647) % 40000 END AS id,
            CAST(2500 / n + 3 AS bigint) AS requests, CAST((hashint4(n) & 2147483647) AS bigint) AS size
    ) item;

INSERT INTO traffic_daily_by_remote_ip
SELECT
    'media', day, inet '10.0.0.0' + address.id, address.requests, address.requests * 300000, address.requests / 50,
    0, 0, 0, 0
FROM
    generate_series(CAST(:first AS date), CAST(:last AS date), interval '1 day') AS day,
    generate_series(1, :values) AS n,
    LATERAL (
        SELECT CAST(CASE WHEN n <= :values / 2 THEN n ELSE (hashint8(n * 100000 + CAST(extract(epoch FROM day) AS bigint) / 86400) & 2147483647) % 200000 END AS bigint) AS id,
            CAST(2500 / n + 3 AS bigint) AS requests
    ) address;

INSERT INTO traffic_daily_by_user_agent
SELECT
    'media', day, 'Mozilla/5.0 (X11; Linux x86_64; build ' || agent.id || ') AppleWebKit/537.36 Chrome/131.0 Safari/537.36',
    50, 15000000, 1, 0, 0, 0, 0
FROM
    generate_series(CAST(:first AS date), CAST(:last AS date), interval '1 day') AS day,
    generate_series(1, :values / 2) AS n,
    LATERAL (SELECT CASE WHEN n <= :values / 4 THEN n ELSE (hashint8(n * 100000 + CAST(extract(epoch FROM day) AS bigint) / 86400) & 2147483647) % 20000 END AS id) agent;

INSERT INTO user_agent_kind
SELECT DISTINCT user_agent, 'browser', NULL, '1', now() FROM traffic_daily_by_user_agent;

INSERT INTO traffic_daily_by_referrer
SELECT
    'media', day, 'https://www.site-' || page.id % 300 || '.example.org/viewtopic/' || page.id, 68, 20000000, 1, 0, 0, 0, 0
FROM
    generate_series(CAST(:first AS date), CAST(:last AS date), interval '1 day') AS day,
    generate_series(1, :values / 3) AS n,
    LATERAL (SELECT (hashint8(n * 100000 + CAST(extract(epoch FROM day) AS bigint) / 86400) & 2147483647) % 20000 AS id) page;

INSERT INTO traffic_daily_by_requester
SELECT 'media', day, CASE WHEN n > 1 THEN 'arn:aws:iam::123456789012:user/user-' || n END, 685, 200000000, 9, 5, 0, 0, 0
FROM generate_series(CAST(:first AS date), CAST(:last AS date), interval '1 day') AS day, generate_series(1, 40) AS n;

INSERT INTO traffic_hourly
SELECT 'media', hour, kind.name, kind.status, kind.requests, kind.requests * 300000, 0, 5, 50, 500
FROM
    generate_series(
        CAST(:first AS date) AT TIME ZONE 'UTC', CAST(:last AS date) AT TIME ZONE 'UTC' + interval '23 hours',
        interval '1 hour'
    ) AS hour,
    (VALUES ('read', 2, 920), ('read', 3, 100), ('read', 4, 50), ('list', 2, 20), ('write', 2, 50), ('delete', 2, 2))
        AS kind (name, status, requests);

INSERT INTO traffic_day (bucket, request_date, requests, bytes_sent, rolled_up_at, seconds)
SELECT 'media', day, 27400, 8000000000, now(), 0.1
FROM generate_series(CAST(:first AS date), CAST(:last AS date), interval '1 day') AS day;

INSERT INTO s3_monthly_price
SELECT 'media', day, 'eu-central-1', false, '2026-09-01', 0.0000054, 0.00000043, 0.0000000000838, 0.0000000000186, 0
FROM generate_series(CAST(:first AS date), CAST(:last AS date), interval '1 month') AS day;
