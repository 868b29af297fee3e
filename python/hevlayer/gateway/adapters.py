"""The backing services that the configuration names."""

import hashlib
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hevlayer.clock import Clock
from hevlayer.gateway.config import GatewayConfig
from hevlayer.stores.doccache_aerospike import AerospikeEngine, AerospikeSettings
from hevlayer.stores.doccache_embedded import EmbeddedEngine
from hevlayer.stores.doccache_engine import Engine
from hevlayer.stores.objects import LocalObjects, ObjectStore

if TYPE_CHECKING:
    from hevlayer.gateway.spans import RequestSpans


def open_cache(config: GatewayConfig, clock: Clock, directory: Path) -> Engine | None:
    """The document cache's engine; None when it is off. One that cannot be reached or opened is tried again later."""
    if config.cache_engine == "off":
        return None
    if config.cache_engine == "aerospike":
        return AerospikeEngine(
            AerospikeSettings(
                config.aerospike_hosts,
                config.aerospike_namespace,
                config.aerospike_set_prefix,
                config.aerospike_user,
                config.aerospike_password,
                config.aerospike_connect_timeout_seconds,
                identity=_whose_rows(config),
                scan_bytes_max=config.aerospike_scan_bytes_max,
            ),
            clock,
            ttl_seconds=config.cache_ttl_seconds,
            timeout_seconds=config.cache_timeout_ms / 1000,
            unknown_write_seconds=config.unknown_write_seconds,
        )
    return EmbeddedEngine.open(
        directory,
        clock,
        upstream=_whose_rows(config),
        capacity_bytes=config.cache_capacity_bytes,
        namespace_capacity_bytes=config.cache_namespace_capacity_bytes,
        ttl_seconds=config.cache_ttl_seconds,
        timeout_seconds=config.cache_timeout_ms / 1000,
        unknown_write_seconds=config.unknown_write_seconds,
    )


def shared_cache_name(config: GatewayConfig) -> str | None:
    """The same for all gateways of a cache that each reaches over a network; None: it is not such a cache."""
    if config.cache_engine != "aerospike":
        return None
    place = f"{config.aerospike_namespace} {config.aerospike_set_prefix} {_whose_rows(config)}"
    return "aerospike " + hashlib.sha256(place.encode()).hexdigest()[:32]


def _whose_rows(config: GatewayConfig) -> str:
    """What a cache must have been filled under to be believed: another key may be another organisation's."""
    mode = "pass-through"
    if config.gateway_api_key:
        mode = "key " + hashlib.sha256(config.turbopuffer_api_key.encode()).hexdigest()[:16]
    return f"{config.upstream_base_url} {mode}"


def open_objects(config: GatewayConfig, clock: Clock, data_dir: Path) -> ObjectStore:
    """Where durable objects are: a bucket, else a directory."""
    if not config.s3_bucket:
        return LocalObjects(config.objects_dir or data_dir, operation_seconds=config.objects_timeout_seconds)
    # The driver's import takes longer than the rest of a gateway that has no bucket.
    from hevlayer.stores.objects.s3 import S3Objects
    from hevlayer.stores.objects.s3_client import S3Settings

    prefix = config.s3_prefix.strip("/")
    return S3Objects(
        S3Settings(
            bucket=config.s3_bucket,
            prefix=f"{prefix}/" if prefix else "",
            region=config.s3_region,
            endpoint_url=config.s3_endpoint_url,
            connect_seconds=config.s3_connect_timeout_seconds,
        ),
        clock,
        operation_seconds=config.objects_timeout_seconds,
        attempt_seconds=config.s3_attempt_timeout_seconds,
    )


def open_spans(config: GatewayConfig, rng: random.Random) -> "RequestSpans | None":
    """Who sends requests as spans; None without a collector."""
    if not config.otlp_endpoint:
        return None
    # As the bucket's driver: the SDK's import takes its time.
    from hevlayer.gateway.spans import RequestSpans

    return RequestSpans(config.otlp_endpoint, rng, time.time_ns)
