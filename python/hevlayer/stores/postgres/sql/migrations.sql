-- bound_waits --
-- A migration that hangs elsewhere fails this start's attempt, it does not hold it for ever.
SELECT
    set_config('lock_timeout', :lock_ms, true),
    set_config('statement_timeout', :statement_ms, true),
    set_config('idle_in_transaction_session_timeout', :statement_ms, true)

-- lock --
-- One migrator at a time; the lock ends with the transaction, however it ends.
SELECT pg_advisory_xact_lock(7023411862914713)

-- create_schema --
-- Everything of ours is in one schema, which a shared database may hold beside others.
CREATE SCHEMA IF NOT EXISTS hevlayer

-- create_table --
-- What has been applied, and the fingerprint of its text.
CREATE TABLE IF NOT EXISTS hevlayer.migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    fingerprint text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)

-- applied --
-- Every applied migration.
SELECT version, fingerprint FROM hevlayer.migrations

-- record --
-- Notes a migration in the transaction that applied it.
INSERT INTO hevlayer.migrations (version, name, fingerprint) VALUES (:version, :name, :fingerprint)
