"""The slow twin of the shard that a write is stamped with."""

from hevlayer.kernels.reference.tree import id_key, uuid_key


def shard_of(value: int | str, shards: int) -> int:
    """xxh64 of the id's text, seed 0, modulo `shards`; what reads as a uuid in its canonical form."""
    # A package of the tests alone.
    import xxhash

    text = str(value).encode() if isinstance(value, int) else (uuid_key(value) or id_key(value))[1:]
    return int(xxhash.xxh64_intdigest(text, seed=0)) % shards
