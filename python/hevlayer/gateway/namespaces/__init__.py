"""Namespaces: metadata, the listing, delete and the warm hint."""
