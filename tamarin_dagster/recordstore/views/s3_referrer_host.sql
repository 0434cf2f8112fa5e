-- The host that a Referer header names: in lower case, without user, port and final dot; null if it names none.
--
-- The header is whatever a client writes. A backslash ends the host, as browsers have it; what then has anything but
-- letters, digits, dots, dashes and underscores in it is no host, nor is an IPv6 address. Cut with functions, not by one
-- pattern with groups, which takes a hundred times as long.
-- (No percent sign may stand in this file: the migration's driver would take it for a placeholder.)
CREATE FUNCTION s3_referrer_host(referrer text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN referrer ~ '^[A-Za-z][A-Za-z0-9+.-]*://' THEN
        substring(
            rtrim(
                lower(split_part(split_part(split_part(translate(left(referrer, 1024), '?#\', '///'), '/', 3), '@', -1), ':', 1)),
                '.'
            )
            FROM '^[a-z0-9_.-]+$'
        )
END;

COMMENT ON FUNCTION s3_referrer_host IS
    'The host that a Referer header names, in lower case, without user, port and final dot; null if it names none.';
