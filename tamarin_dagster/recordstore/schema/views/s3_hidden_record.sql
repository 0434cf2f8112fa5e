-- Records whose request URI, referrer or user agent holds the beginning of another record.
--
-- A lost newline makes one line of two records, and a client can write a whole record into its user agent. Either way the
-- line is one record, and the rest of it stays in that field (docs/reference/lines.md, "Hidden records"). Ask with
-- bounds on the request's time:
--
--     SELECT * FROM s3_hidden_record WHERE request_dtime >= '2026-03-05' AND request_dtime < '2026-03-06';
--
-- LIKE finds the few rows that hold a bracket and a time, and costs little for all others. The regular expression then
-- counts the beginnings: [time] address requester request-id OPERATION, in the shapes of logformat/fields.py. A scalar
-- subquery looks up the log key, because a join could read the whole ledger.
CREATE OR REPLACE VIEW s3_hidden_record AS
SELECT
    r.bucket,
    r.request_dtime,
    r.log_key_id,
    (SELECT k.key FROM s3_log_key k WHERE k.id = r.log_key_id) AS log_key,
    r.line_number,
    found.hidden_records,
    found.fields,
    found.beginnings
FROM s3_log_record r
CROSS JOIN LATERAL (
    SELECT
        count(*) AS hidden_records,
        array_agg(DISTINCT quoted.field ORDER BY quoted.field) AS fields,
        array_agg(beginning.match[1] ORDER BY quoted.place, beginning.place) AS beginnings
    FROM (
        VALUES (1, 'request_uri', r.request_uri), (2, 'referrer', r.referrer), (3, 'user_agent', r.user_agent)
    ) quoted (place, field, value)
    CROSS JOIN LATERAL regexp_matches(
        quoted.value,
        '\[[0-3][0-9]/[A-Z][a-z]{2}/[0-9]{4}:[0-2][0-9]:[0-5][0-9]:[0-5][0-9] +[+-][01][0-9][0-5][0-9]\]'
        ' +(?:[0-9A-Fa-f.:]+|-)'
        ' +(?:[^ "]+|arn:[^"\[\]]+)'
        ' +[^ "]+'
        ' +(?:REST|WEBSITE|SOAP|BATCH|S3)(?:\.[A-Za-z0-9_]+){1,3}(?= |$)',
        'g'
    ) WITH ORDINALITY beginning (match, place)
) found
WHERE (
    r.user_agent LIKE '%[__/___/____:__:__:__ %'
    OR r.referrer LIKE '%[__/___/____:__:__:__ %'
    OR r.request_uri LIKE '%[__/___/____:__:__:__ %'
)
AND found.hidden_records > 0;
