"""The reserved attributes' names, as the kernels know them."""

from hevlayer.kernels.reserved import RESERVED_PREFIX, SHARD_ATTRIBUTE, STAMP_ATTRIBUTE

__all__ = ["RESERVED_PREFIX", "SHARD_ATTRIBUTE", "STAMP_ATTRIBUTE"]
