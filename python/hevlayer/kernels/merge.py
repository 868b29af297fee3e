"""Merging the answers to the legs of a scattered query."""

from hevlayer._native import MergedLegs, MergeError, merge_legs

__all__ = ["MergeError", "MergedLegs", "merge_legs"]
