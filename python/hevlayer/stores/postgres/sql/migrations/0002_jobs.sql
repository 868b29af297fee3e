-- Scan, snapshot and warm jobs of every gateway. Times are epoch milliseconds of the gateways' clocks.
CREATE TABLE hevlayer.jobs (
    id text PRIMARY KEY,
    kind text NOT NULL,
    namespace text NOT NULL,
    scope text NOT NULL,
    status text NOT NULL,
    exclusive text NOT NULL,
    created_at_ms bigint NOT NULL,
    lease_until_ms bigint NOT NULL,
    expires_at_ms bigint NOT NULL,
    completed_at_ms bigint,
    progress double precision NOT NULL,
    documents_scanned bigint NOT NULL,
    stable_as_of_ms bigint,
    error text,
    details text NOT NULL
);
CREATE INDEX jobs_listing ON hevlayer.jobs (namespace, kind, scope, created_at_ms DESC, id DESC);
CREATE INDEX jobs_expiry ON hevlayer.jobs (expires_at_ms) WHERE status <> 'running';
CREATE INDEX jobs_running ON hevlayer.jobs (exclusive) WHERE status = 'running';
