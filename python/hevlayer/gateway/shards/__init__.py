"""Namespaces cut into shards: which are, how rows and queries are divided, and how answers become one."""
