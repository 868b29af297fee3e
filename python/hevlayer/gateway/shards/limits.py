"""The numbers of shards, and the defaults of their settings."""

SHARDS_MIN = 2
SHARDS_MAX = 256
# Of the upstream's 16 permits of a namespace, what scattered queries take together.
SCATTER_PERMITS = 8
BACKFILL_ROWS_PER_SECOND = 2_000
