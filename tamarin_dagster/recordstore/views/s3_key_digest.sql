-- The first 16 bytes of the SHA-256 of a key's name: what stands for it in an index, which takes no name of any length.
-- (convert_to is not called immutable by Postgres, since somebody may redefine a conversion.)
-- (No percent sign may stand in this file: the migration's driver would take it for a placeholder.)
CREATE FUNCTION s3_key_digest(key text) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN substr(sha256(convert_to(key, 'UTF8')), 1, 16);

COMMENT ON FUNCTION s3_key_digest IS 'The first 16 bytes of the SHA-256 of a key''s name, which traffic_daily_by_key has.';
