"""Durable objects: small immutable bodies under keys. In a cluster an S3 bucket, on one machine a directory."""

from hevlayer.stores.objects.local import LocalObjects
from hevlayer.stores.objects.measured import MeasuredObjects
from hevlayer.stores.objects.port import (
    LIST_KEYS_MAX,
    ObjectStore,
    ObjectStoreBusyError,
    ObjectStoreDeniedError,
    ObjectStoreError,
    ObjectStoreFullError,
    ObjectStoreRefusedError,
    ObjectStoreTimeoutError,
    ObjectStoreUnreachableError,
)

__all__ = [
    "LIST_KEYS_MAX",
    "LocalObjects",
    "MeasuredObjects",
    "ObjectStore",
    "ObjectStoreBusyError",
    "ObjectStoreDeniedError",
    "ObjectStoreError",
    "ObjectStoreFullError",
    "ObjectStoreRefusedError",
    "ObjectStoreTimeoutError",
    "ObjectStoreUnreachableError",
]
