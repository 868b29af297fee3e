"""The kernels' refusals as errors of ours."""

from pathlib import Path

from hevlayer.errors import LayerError, NotSupportedError, ValidationError
from hevlayer.kernels.splice import QueryScan, SpliceError, WriteScan, separators
from hevlayer.wire.bodies import MalformedJsonError

# Work on bodies of at least this size leaves the event loop to other requests meanwhile.
OFF_LOOP_BYTES = 256 * 1024
# A text that is read into objects has at most so many members and elements. The largest filter that is allowed has an
# eighth of it, and objects of so many are made in a tenth of a second, which no other request gets meanwhile.
PARTS_MAX = 524_288


def scan_query(body: bytes) -> QueryScan:
    """Raises: MalformedJsonError, ValidationError, NotSupportedError."""
    try:
        return QueryScan(body)
    except SpliceError as error:
        raise refusal(error) from error


def scan_write(body: bytes, *, patch_method: bool, shards: int | None = None) -> WriteScan:
    """Raises: MalformedJsonError, ValidationError, NotSupportedError."""
    try:
        return WriteScan(body, patch_method=patch_method, shards=shards)
    except SpliceError as error:
        raise refusal(error) from error


def scan_spooled_write(path: Path, *, patch_method: bool, shards: int | None = None) -> WriteScan:
    """Scans a body in a file. Raises: as `scan_write`; OSError."""
    try:
        return WriteScan.open(str(path), patch_method=patch_method, shards=shards)
    except SpliceError as error:
        raise refusal(error) from error


def check_parts(text: bytes, place: str) -> None:
    """Raises: ValidationError: reading the JSON text into objects would keep all others waiting."""
    if separators(text) > PARTS_MAX:
        raise ValidationError(f"{place}: has more than {PARTS_MAX} elements and members")


def refusal(error: SpliceError) -> LayerError:
    if error.code == "bad_json":
        return MalformedJsonError(error.message)
    if error.code == "not_supported":
        return NotSupportedError(error.message)
    return ValidationError(error.message)
