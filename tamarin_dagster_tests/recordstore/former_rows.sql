-- What the tables of a database hold that has been in use for some months, for the test of upgrades.
-- In order; the records follow from the ledger.
INSERT INTO s3_logged_bucket (name, log_bucket_name, log_prefix, monitor_bucket, region, own_hosts) VALUES
    ('media', 'logs', 'media/', true, 'eu-west-1', '{www.example.org,*.media.example.org}'),
    ('films', 'file:///srv/logs', '', false, NULL, '{}');

-- In turn: over the end of a month; with rejected and blank lines; superseded, and what superseded it; purged; one whose
-- deletion fails; expired; one version of a key; nothing but blank lines; an hour with many requests; the late key.
INSERT INTO s3_log_key (
    bucket, log_bucket_name, key, etag, version_id, size, last_modified, delivery_date, line_count, record_count,
    rejected_count, blank_count, first_request_dtime, last_request_dtime, run_id, loaded_at, purged_at, purge_error,
    purge_failed_at, superseded_at, expired_at, archived_at
)
SELECT
    bucket, 'logs', key, etag, version_id, 1000, day + interval '10 hours', day, records + rejected + blank, records,
    rejected, blank, first, last, run_id, day + interval '11 hours', purged, error,
    CASE WHEN error IS NOT NULL THEN day + interval '12 hours' END, superseded, expired, archived
FROM (VALUES
    ('media', 'media/2026-02-01-00-10-00-0000000000000001', 'a', NULL, date '2026-02-01', 200, 0, 0,
     timestamptz '2026-01-31 22:00Z', timestamptz '2026-02-01 00:10Z', NULL, NULL::timestamptz, NULL,
     NULL::timestamptz, NULL::timestamptz, NULL::timestamptz),
    ('media', 'media/2026-02-03-10-00-00-0000000000000002', 'b', NULL, '2026-02-03', 40, 2, 1,
     '2026-02-03 09:00Z', '2026-02-03 09:59Z', 'run-1', NULL, NULL, NULL, NULL, NULL),
    ('media', 'media/2026-02-04-10-00-00-0000000000000003', 'old', NULL, '2026-02-04', 0, 0, 0,
     NULL, NULL, NULL, NULL, NULL, '2026-02-04 13:00Z', NULL, NULL),
    ('media', 'media/2026-02-04-10-00-00-0000000000000003', 'new', NULL, '2026-02-04', 30, 0, 0,
     '2026-02-04 08:00Z', '2026-02-04 09:00Z', NULL, NULL, NULL, NULL, NULL, NULL),
    ('media', 'media/2026-02-20-10-00-00-0000000000000004', 'c', NULL, '2026-02-20', 25, 0, 0,
     '2026-02-20 08:00Z', '2026-02-20 09:00Z', NULL, '2026-02-20 12:00Z', NULL, NULL, NULL, '2026-02-20 11:30Z'),
    ('media', 'media/2026-03-01-00-20-00-0000000000000005', 'd', NULL, '2026-03-01', 20, 0, 0,
     '2026-02-28 23:30Z', '2026-03-01 00:15Z', NULL, NULL, 'AccessDenied', NULL, NULL, NULL),
    ('media', 'media/2025-12-05-10-00-00-0000000000000006', 'e', NULL, '2025-12-05', 50, 0, 0,
     '2025-12-05 08:00Z', '2025-12-05 09:00Z', NULL, '2025-12-06 10:00Z', NULL, NULL, '2026-01-01 03:00Z', NULL),
    ('films', '2026-03-02-10-00-00-0000000000000007.gz', 'f', 'v1', '2026-03-02', 35, 0, 0,
     '2026-03-02 07:00Z', '2026-03-02 09:00Z', 'run-2', NULL, NULL, NULL, NULL, NULL),
    ('films', '2026-03-03-10-00-00-0000000000000008.gz', 'g', NULL, '2026-03-03', 0, 0, 3,
     NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    ('media', 'media/2026-03-20-11-00-00-0000000000000009', 'h', NULL, '2026-03-20', 180, 0, 0,
     '2026-03-20 09:00Z', '2026-03-20 09:50Z', NULL, NULL, NULL, NULL, NULL, NULL),
    ('media', 'media/2026-03-21-11-00-00-000000000000000A', 'i', NULL, '2026-03-21', 12, 0, 0,
     '2026-03-20 09:10Z', '2026-03-20 09:40Z', NULL, NULL, NULL, NULL, NULL, NULL)
) AS k (bucket, key, etag, version_id, day, records, rejected, blank, first, last, run_id, purged, error, superseded,
        expired, archived);

INSERT INTO s3_log_record (
    log_key_id, line_number, bucket_owner, bucket, request_dtime, remote_ip, requester, request_id, operation, key,
    request_method, request_uri, http_version, http_status, error_code, bytes_sent, object_size, total_time,
    turnaround_time, referrer, user_agent, version_id, host_id, signature_version, cipher_suite, authentication_type,
    host_header, tls_version, acl_required, source_region, extra_fields
)
SELECT
    k.id, n, 'owner', k.bucket, date_trunc('second', k.first_request_dtime + (k.last_request_dtime - k.first_request_dtime) * n / k.record_count),
    CASE WHEN n % 11 = 0 THEN NULL ELSE CAST('192.0.2.' || n % 7 AS inet) END,
    CASE WHEN n % 5 = 0 THEN 'arn:aws:iam::123456789012:user/' || n % 3 END,
    upper(lpad(to_hex(k.id * 1000 + n), 16, '0')),
    (ARRAY['REST.GET.OBJECT', 'REST.GET.OBJECT', 'REST.PUT.OBJECT', 'REST.GET.OBJECT', 'REST.DELETE.OBJECT',
           'REST.GET.BUCKET', 'S3.EXPIRE.OBJECT'])[n % 7 + 1],
    CASE WHEN n % 7 <> 5 THEN 'a/' || n % 13 || repeat('x', n % 3) || '%20.mp4' END,
    'GET', '/a', 'HTTP/1.1', (ARRAY[200, 206, 404, 200, 503])[n % 5 + 1],
    (ARRAY[NULL, NULL, 'NoSuchKey', NULL, 'SlowDown'])[n % 5 + 1], n * 1000003, 1 + n % 13 * 2000000, n, n - 1,
    CASE WHEN n % 3 = 0 THEN 'https://' || (ARRAY['Elsewhere.example', 'www.example.org', 'x.media.example.org'])[n % 4 + 1]
        || '/' || n % 2 END,
    (ARRAY['curl/8.5.0', 'Googlebot/2.1', NULL])[n % 3 + 1], NULL, 'host', CASE WHEN n % 2 = 0 THEN 'SigV4' END,
    CASE WHEN n % 9 <> 0 THEN 'AES' END, CASE WHEN n % 2 = 0 THEN 'AuthHeader' END, 'media.s3.amazonaws.com',
    CASE WHEN n % 9 = 1 THEN 'TLSv1' WHEN n % 9 <> 0 THEN 'TLSv1.3' END, CASE WHEN n % 6 = 0 THEN 'Yes' END,
    CASE WHEN n % 4 = 0 THEN 'us-east-1' END, CASE WHEN n = 1 THEN 'more "fields" -' END
FROM s3_log_key k CROSS JOIN generate_series(1, 200) n
WHERE n <= k.record_count AND k.expired_at IS NULL;

-- S3 delivered one record twice, in two log keys.
UPDATE s3_log_record r
SET (request_id, operation, key, http_status, error_code, request_dtime, bytes_sent, object_size, total_time,
     turnaround_time, remote_ip, requester, referrer, user_agent, signature_version, cipher_suite, authentication_type,
     tls_version, acl_required, source_region, extra_fields)
    = (SELECT t.request_id, t.operation, t.key, t.http_status, t.error_code, t.request_dtime, t.bytes_sent,
              t.object_size, t.total_time, t.turnaround_time, t.remote_ip, t.requester, t.referrer, t.user_agent,
              t.signature_version, t.cipher_suite, t.authentication_type, t.tls_version, t.acl_required,
              t.source_region, t.extra_fields
       FROM s3_log_record t JOIN s3_log_key k ON k.id = t.log_key_id WHERE k.etag = 'h' AND t.line_number = 60)
FROM s3_log_key k
WHERE k.id = r.log_key_id AND k.etag = 'i' AND r.line_number = 1;

-- A record whose user agent holds the beginning of another one.
UPDATE s3_log_record r
SET user_agent = 'curl/8.5.0 owner media [20/Mar/2026:09:00:00 +0000] 192.0.2.9 - 00000000000000AB REST.GET.OBJECT a/b'
FROM s3_log_key k
WHERE k.id = r.log_key_id AND k.etag = 'i' AND r.line_number = 2;

INSERT INTO s3_rejected_line (log_key_id, line_number, reason, line, line_bytes, sha256)
SELECT k.id, 40 + n, 'truncated', '\x00ff25', 3, sha256('\x00ff25')
FROM s3_log_key k CROSS JOIN generate_series(1, 2) n
WHERE k.rejected_count > 0;

INSERT INTO user_agent_kind VALUES
    ('curl/8.5.0', 'library/CLI', 'curl', '1', '2026-03-02Z'), ('Googlebot/2.1', 'search engine', NULL, '1', '2026-03-02Z');
INSERT INTO remote_ip_network VALUES ('192.0.2.1', 'DE', 64496, 'Example', 'City 1', '2026-03-02Z');
INSERT INTO s3_price VALUES
    ('eu-west-1', 'internet_gb', 0, 0.09, '2026-01-01'), ('eu-west-1', 'internet_gb', 10240, 0.085, '2026-01-01');
INSERT INTO s3_monthly_price
SELECT bucket, month, 'eu-west-1', bucket = 'films', '2026-01-01', 0.000005, 0.0000004, 0.00000000008, 0.00000000002, 12345
FROM unnest(ARRAY['media', 'films']) AS bucket
CROSS JOIN unnest(CAST('{2026-01-01,2026-02-01,2026-03-01}' AS date[])) AS month;
INSERT INTO dimension_day VALUES ('price', 'media', '2026-02-03', '2026-02-04 01:00Z');
-- Retention has dropped the records of this day; its rollups stay.
INSERT INTO traffic_day VALUES
    ('media', '2025-12-05', 50, 5000, '2025-12-06 01:00Z', 0.5, '2025-12-06 01:00Z', '2026-01-01 03:00Z');
INSERT INTO traffic_hourly VALUES ('media', '2025-12-05 08:00Z', 'read', 2, 50, 5000, 0, 1, 2, 3);
INSERT INTO traffic_daily_by_key
    (bucket, request_date, key, requests, bytes_sent, error_count, put_requests, unbilled_requests, unbilled_bytes,
     interregion_bytes, reads, deletes, object_size)
VALUES ('media', '2025-12-05', 'forgotten.mp4', 50, 5000, 0, 0, 0, 0, 0, 50, 0, 100);
