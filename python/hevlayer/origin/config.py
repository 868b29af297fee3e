"""Settings of the local origin."""

from dataclasses import dataclass, field
from pathlib import Path

from hevlayer.origin.faults import FaultConfig

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class OriginConfig:
    """`threads` bounds the engine calls under way; a request beyond that waits for its turn."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8081
    threads: int = 16
    body_bytes_max: int = 512 * MIB
    """Of a request, as it stands on the wire and again after inflating."""
    query_billing_floor_bytes: int = 256_000_000
    index_lag_ms: int = 0
    drain_seconds: float = 10.0
    control: bool = False
    """Serves `/_origin/*`, through which tests inject faults. Never in reach of anybody else."""
    faults: FaultConfig = field(default_factory=FaultConfig)
