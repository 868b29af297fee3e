"""hevlayer: a gateway for retrieval systems."""

__version__ = "0.1.0"
