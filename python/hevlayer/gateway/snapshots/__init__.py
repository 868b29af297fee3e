"""Facet snapshots: histograms of a namespace's fields, kept by their content, with a history."""
