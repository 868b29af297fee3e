"""The defaults of the object store's settings, in a module that loads no driver."""

OPERATION_SECONDS = 10.0
ATTEMPT_SECONDS = 4.0
CONNECT_SECONDS = 2.0
