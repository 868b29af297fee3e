"""The defaults of the database's settings, in a module that does not load the driver."""

CONNECT_SECONDS = 5.0
QUERY_SECONDS = 5.0
CONNECTIONS_MAX = 10
