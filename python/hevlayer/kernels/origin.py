"""The local origin's engine (`rust/origin`)."""

from hevlayer._native import OriginEngine

__all__ = ["OriginEngine"]
