-- A year of rollups as ten million records of one bucket leave them, written at once: some 2,500 keys and addresses a
-- day, half of the keys and a fifth of the addresses those of every day, the others of 40,000 and 200,000.
INSERT INTO traffic_daily_by_key
SELECT
    'media', day, CASE WHEN n > 0 THEN 'photos/2026/album-' || item.id % 97 || '/' || item.id || '.jpg' END,
    item.requests, CAST(item.requests AS bigint) * item.size, item.requests / 50, CAST(draw.h % 40 = 0 AS int), 0, 0, 0,
    item.requests, CAST(draw.h % 997 = 0 AS int), item.size
FROM
    generate_series(CAST(:first AS date), CAST(:last AS date), interval '1 day') AS day,
    generate_series(0, :values - 1) AS n,
    LATERAL (SELECT hashint8(n * 100000 + CAST(extract(epoch FROM day) AS bigint) / 86400) & 2147483647 AS h) draw,
    LATERAL (
        SELECT CASE WHEN n < :values / 2 THEN n ELSE draw.h % 40000 END AS id,
            4000 / (n + 1) + 8 AS requests, (hashint4(n) & 2147483647) % 2000000 AS size
    ) item;

INSERT INTO traffic_daily_by_remote_ip
SELECT
    'media', day, CASE WHEN n > 0 THEN inet '10.0.0.0' + address.id END, address.requests,
    CAST(address.requests AS bigint) * address.size, address.requests / 50, 0, 0, 0, 0
FROM
    generate_series(CAST(:first AS date), CAST(:last AS date), interval '1 day') AS day,
    generate_series(0, :values - 1) AS n,
    LATERAL (SELECT hashint8(n * 100000 + CAST(extract(epoch FROM day) AS bigint) / 86400) & 2147483647 AS h) draw,
    LATERAL (
        SELECT CAST(CASE WHEN n < :values / 5 THEN n ELSE draw.h % 200000 END AS bigint) AS id,
            4000 / (n + 1) + 8 AS requests, (hashint4(n) & 2147483647) % 2000000 AS size
    ) address;

INSERT INTO traffic_daily_by_requester
SELECT 'media', day, CASE WHEN n > 0 THEN 'arn:aws:iam::123456789012:user/user-' || n END, 680, n * 1000000, 9, 0, 0, 0, 0
FROM generate_series(CAST(:first AS date), CAST(:last AS date), interval '1 day') AS day, generate_series(0, 40) AS n;

INSERT INTO traffic_daily_by_referrer
SELECT
    'media', day, CASE WHEN n > 0 THEN 'https://www.site-' || page.id % 300 || '.example.org/viewtopic/' || page.id END,
    68, page.id * 1000, 1, 0, 0, 0, 0
FROM
    generate_series(CAST(:first AS date), CAST(:last AS date), interval '1 day') AS day,
    generate_series(0, 400) AS n,
    LATERAL (
        SELECT (hashint8(n * 100000 + CAST(extract(epoch FROM day) AS bigint) / 86400) & 2147483647) % 20000 AS id
    ) page;

INSERT INTO traffic_hourly
SELECT
    'media', hour, kind.name, kind.status, amount.requests, amount.requests * 200000,
    CASE WHEN kind.status >= 4 THEN amount.requests ELSE 0 END, 5, 50, 500
FROM
    generate_series(
        CAST(:first AS date) AT TIME ZONE 'UTC', CAST(:last AS date) AT TIME ZONE 'UTC' + interval '23 hours',
        interval '1 hour'
    ) AS hour,
    LATERAL (SELECT CAST(extract(epoch FROM hour) AS bigint) / 3600 AS number) nth,
    (VALUES ('read', 2, 900), ('read', 3, 100), ('read', 4, 50), ('list', 2, 20), ('write', 2, 50), ('delete', 2, 2))
        AS kind (name, status, usual),
    LATERAL (
        SELECT kind.usual + (hashint8(nth.number) & 65535) % kind.usual / 2
            + CASE WHEN nth.number % 700 = 5 THEN 9 * kind.usual ELSE 0 END AS requests
    ) amount;
