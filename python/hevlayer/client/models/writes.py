"""Writes, copies and long operations."""

from typing import Any

from hevlayer.client.models.base import LayerModel


class TurbopufferWriteRequest(LayerModel):
    """A write. Its fields are Turbopuffer's (`upsert_rows`, `patch_columns`, …) or the Layer dialect's (`upserts`,
    `patches`, `deletes`)."""


class TurbopufferCopyFromRequest(LayerModel):
    copy_from_namespace: str | dict[str, Any]


class TurbopufferBranchFromRequest(LayerModel):
    branch_from_namespace: str | dict[str, Any]


class TurbopufferWriteResponse(LayerModel):
    """What a write did. The ids are there only when `return_affected_ids` asked for them."""

    status: str
    message: str
    rows_affected: int
    rows_upserted: int | None = None
    rows_patched: int | None = None
    rows_deleted: int | None = None
    rows_remaining: bool | None = None
    upserted_ids: list[Any] | None = None
    patched_ids: list[Any] | None = None
    deleted_ids: list[Any] | None = None
    billing: dict[str, Any]
    performance: dict[str, Any] | None = None


class OperationStarted(LayerModel):
    """A long operation that goes on by itself; ask for it by its token."""

    token: str


class OperationState(LayerModel):
    """`status` is `running` or `finished`; `result` then has `success` or `error`."""

    status: str
    start_time: str | None = None
    finish_time: str | None = None
    result: dict[str, Any] | None = None


class StatusResponse(LayerModel):
    """An acknowledgement."""

    status: str
    message: str | None = None
    rows_affected: int | None = None
    rows_upserted: int | None = None
    rows_patched: int | None = None
    rows_deleted: int | None = None
    billing: dict[str, Any] | None = None
