"""The record of searches and fetches: what was served is written to the object store in batches, and listed again."""

from hevlayer.gateway.history.assembly import History, checked, quick_checked

__all__ = ["History", "checked", "quick_checked"]
