-- lock_exclusive --
-- Adders of one exclusive text take turns, so that two never find that none runs; the lock ends with the transaction.
SELECT pg_advisory_xact_lock(:key)

-- running_exclusive --
-- The job that excludes a new one: of the same text, running, its process alive at :now_ms.
SELECT * FROM hevlayer.jobs
WHERE exclusive = :exclusive AND status = 'running' AND lease_until_ms > :now_ms
ORDER BY created_at_ms, id LIMIT 1

-- add --
-- A new job.
INSERT INTO hevlayer.jobs (
    id, kind, namespace, scope, status, exclusive, created_at_ms, lease_until_ms, expires_at_ms, completed_at_ms,
    progress, documents_scanned, stable_as_of_ms, error, details
) VALUES (
    :id, :kind, :namespace, :scope, :status, :exclusive, :created_at_ms, :lease_until_ms, :expires_at_ms,
    :completed_at_ms, :progress, :documents_scanned, :stable_as_of_ms, :error, :details
)

-- get --
-- One job.
SELECT * FROM hevlayer.jobs WHERE id = :id

-- list --
-- A namespace's jobs of one kind and scope, newest first.
SELECT * FROM hevlayer.jobs
WHERE namespace = :namespace AND kind = :kind AND scope = :scope
ORDER BY created_at_ms DESC, id DESC LIMIT :limit

-- save --
-- Further on, or ended; what has ended, or is no more, is left alone. What never changes is not written.
UPDATE hevlayer.jobs SET
    status = :status, lease_until_ms = :lease_until_ms, expires_at_ms = :expires_at_ms,
    completed_at_ms = :completed_at_ms, progress = :progress, documents_scanned = :documents_scanned,
    stable_as_of_ms = :stable_as_of_ms, error = :error, details = :details
WHERE id = :id AND status = 'running'
RETURNING id

-- delete --
-- Forgets one job.
DELETE FROM hevlayer.jobs WHERE id = :id RETURNING *

-- delete_namespace --
-- Forgets a namespace's jobs that were made before a moment, of every kind and scope.
DELETE FROM hevlayer.jobs WHERE namespace = :namespace AND created_at_ms < :created_before_ms RETURNING *

-- fail_lost --
-- Ends running jobs whose process has let the lease run out. A row that another sweep or a save holds waits for the
-- next sweep: two sweeps never wait for each other.
UPDATE hevlayer.jobs SET
    status = 'failed', completed_at_ms = :now_ms::bigint, expires_at_ms = :now_ms::bigint + :ttl_ms::bigint, error = :error
WHERE id IN (
    SELECT id FROM hevlayer.jobs WHERE status = 'running' AND lease_until_ms <= :now_ms
    LIMIT :limit FOR UPDATE SKIP LOCKED
)

-- remove_expired --
-- Forgets ended jobs whose time is over, and the ones next to expire when more than :kept_max are kept. Of several
-- sweeps one removes a job, and it alone is told of it.
DELETE FROM hevlayer.jobs WHERE id IN (
    SELECT id FROM hevlayer.jobs
    WHERE status <> 'running' AND expires_at_ms <= GREATEST(:now_ms::bigint, (
        SELECT expires_at_ms FROM hevlayer.jobs WHERE status <> 'running'
        ORDER BY expires_at_ms DESC OFFSET :kept_max LIMIT 1
    ))
    ORDER BY expires_at_ms LIMIT :limit FOR UPDATE SKIP LOCKED
)
RETURNING *
