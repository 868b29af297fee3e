-- What gateways owe a document cache that they could tell neither of a write nor of the debt.
-- Empty but for those times. `namespaces` is null for everything.
CREATE TABLE hevlayer.cache_debts (
    cache text NOT NULL,
    owner bigint NOT NULL,
    serial bigint NOT NULL,
    namespaces jsonb,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (cache, owner)
);
