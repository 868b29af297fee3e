"""What a cache engine that keeps typed columns of its rows does beside `Engine`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from hevlayer.kernels.filters import CancelFlag, ColumnTable, FilterSchema
from hevlayer.stores.doccache_engine import NamespaceFacts

# Time that one build of columns may take.
BUILD_SECONDS_MAX = 900.0


@dataclass(frozen=True, slots=True)
class NamespaceColumns:
    """The columns of a namespace at one moment, with what changed since they were built."""

    table: ColumnTable
    """Rows with an open write are in it as they were before."""
    attributes: frozenset[str]
    """The attributes that have a column."""
    facts: NamespaceFacts
    """As of the same moment."""


@dataclass(frozen=True, slots=True)
class ColumnFile:
    """The columns of one namespace, as they stand on the disk for every process."""

    namespace: str
    rows: int
    bytes: int
    columns: tuple[str, ...]
    used_ms: int
    """When a process last read it, to the minute."""
    changed_rows: int = 0
    """Rows that this process reads from memory, since they changed."""
    superseded_rows: int = 0
    """Rows of the file that changed or are gone."""
    changed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class BuiltColumns:
    """What a build made."""

    rows: int
    bytes: int
    left_out: tuple[str, ...]
    """Attributes that cannot have a column: a value is not of the attribute's type, or there are too many elements."""
    seconds: float


@runtime_checkable
class KeepsColumns(Protocol):
    """An engine that keeps columns. Every method raises CacheUnavailableError when it fails."""

    async def columns(self, namespace: str, seconds: float) -> NamespaceColumns | None:
        """The columns as of now; None: there are none, or they are too old to be brought up to date."""

    async def build_columns(
        self, namespace: str, schema: FilterSchema, attributes: Sequence[str], cancel: CancelFlag
    ) -> BuiltColumns | None:
        """Builds columns of these attributes in place of those that are there. At most `BUILD_SECONDS_MAX`.

        Returns: None: another process builds.
        """

    async def cached_rows(self, namespace: str) -> int:
        """Rows that are cached of a namespace."""

    async def column_files(self) -> list[ColumnFile]: ...

    async def drop_columns(self, namespace: str) -> None:
        """Removes the columns of a namespace, and stops noting its changes."""

    async def tidy_columns(self) -> None:
        """Removes what nobody can use any more: earlier epochs', replaced ones, what a process that died has left."""
