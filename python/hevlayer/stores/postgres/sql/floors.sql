-- publish --
-- Puts this process's floors in the place of its last ones, and gives every other process's that still counts.
-- Only the first of a process waits for the disk: an older floor of it that a crash of the server brings back is lower,
-- but none at all would say that nothing is in flight.
WITH quick AS MATERIALIZED (
    SELECT set_config('synchronous_commit', :synchronous_commit, true)
), mine AS (
    INSERT INTO hevlayer.floors (process, floor_ms, namespaces, hold_seconds, published_at)
    SELECT :process, :floor_ms, :namespaces::text::jsonb, :hold_seconds, clock_timestamp() FROM quick
    ON CONFLICT (process) DO UPDATE SET
        floor_ms = excluded.floor_ms,
        namespaces = excluded.namespaces,
        hold_seconds = excluded.hold_seconds,
        published_at = excluded.published_at
)
SELECT floor_ms, namespaces::text AS namespaces FROM hevlayer.floors
WHERE process <> :process AND published_at > clock_timestamp() - make_interval(secs => hold_seconds)

-- retire --
-- This process has nothing in flight and will have nothing.
DELETE FROM hevlayer.floors WHERE process = :process

-- sweep --
-- Processes that ended without saying so, long after their last write can have taken effect.
DELETE FROM hevlayer.floors WHERE published_at < clock_timestamp() - make_interval(secs => 2 * hold_seconds + 60)
