-- One row per gateway process: what it has in flight, so that the others' watermarks stay below it.
-- Updated five times a second, hence the room in each page for updates in place.
CREATE TABLE hevlayer.floors (
    process text PRIMARY KEY,
    floor_ms bigint NOT NULL,
    namespaces jsonb NOT NULL,
    hold_seconds double precision NOT NULL,
    published_at timestamptz NOT NULL
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
