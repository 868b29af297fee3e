"""The attributes that the gateway writes and callers do not."""

RESERVED_PREFIX = "_hevlayer_"
STAMP_ATTRIBUTE = "_hevlayer_upserted_at"
SHARD_ATTRIBUTE = "_hevlayer_shard"
