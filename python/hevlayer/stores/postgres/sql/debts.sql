-- look --
-- Everybody's debts of one cache. An owner of some is seen; for all others this writes nothing.
WITH seen AS (
    UPDATE hevlayer.cache_debts SET seen_at = clock_timestamp() WHERE cache = :cache AND owner = :owner
)
SELECT owner, serial, namespaces::text AS namespaces,
    seen_at < clock_timestamp() - make_interval(secs => :silent_seconds) AS is_silent
FROM hevlayer.cache_debts WHERE cache = :cache

-- publish --
-- A statement that was given up, and takes effect after a later one, changes nothing.
INSERT INTO hevlayer.cache_debts AS debt (cache, owner, serial, namespaces, seen_at)
VALUES (:cache, :owner, :serial, :namespaces::text::jsonb, clock_timestamp())
ON CONFLICT (cache, owner) DO UPDATE SET
    serial = excluded.serial, namespaces = excluded.namespaces, seen_at = excluded.seen_at
WHERE debt.serial < excluded.serial

-- withdraw --
DELETE FROM hevlayer.cache_debts WHERE cache = :cache AND owner = :owner AND serial < :serial

-- remove --
DELETE FROM hevlayer.cache_debts
WHERE cache = :cache AND owner = :owner AND seen_at < clock_timestamp() - make_interval(secs => :silent_seconds)
RETURNING owner
