"""A namespace of the local origin with a generated world in it, and what is known of its rows beside."""

import json
from typing import Any

from filter_worlds import World

from hevlayer.kernels.doccache import DocRows
from hevlayer.kernels.filters import FilterSchema
from hevlayer.kernels.origin import OriginEngine
from hevlayer.kernels.reference import filters as twin
from hevlayer.kernels.splice import id_key, uuid_key


class Namespace:
    """A namespace of the local origin, asked through its engine."""

    def __init__(self, engine: OriginEngine, name: str, world: World) -> None:
        self.engine = engine
        self.name = name
        self.world = world
        self.rows: dict[int | str, dict[str, Any]] = {}

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        status, _, text = self.engine.handle("POST", f"/v2/namespaces/{self.name}{path}", "", json.dumps(body).encode())
        return status, json.loads(text)

    def write(self, rows: list[dict[str, Any]], deletes: list[int | str] | None = None) -> None:
        schema = self.world.schema | {"id": {"type": self.world.id_type}}
        status, answer = self.post("", {"upsert_rows": rows, "deletes": deletes or [], "schema": schema})
        assert status == 200, answer
        self.rows |= {row["id"]: row for row in rows}
        for gone in deletes or []:
            del self.rows[gone]

    def schema(self) -> FilterSchema:
        status, _, text = self.engine.handle("GET", f"/v2/namespaces/{self.name}/metadata", "", b"")
        assert status == 200
        return FilterSchema(json.dumps(json.loads(text)["schema"]).encode())

    def stored(self, ids: list[int | str] | None = None) -> DocRows:
        body = {"rank_by": ["id", "asc"], "limit": 10_000, "include_attributes": True}
        if ids is not None:
            body["filters"] = ["id", "In", ids]
        status, _, text = self.engine.handle("POST", f"/v2/namespaces/{self.name}/query", "", json.dumps(body).encode())
        assert status == 200, text
        return DocRows(text, [])

    def found(self, condition: Any) -> list[str] | None:
        """Ids as strings, sorted as the origin has them; None when it refuses the filter."""
        body = {"rank_by": ["id", "asc"], "limit": 10_000, "filters": condition}
        status, answer = self.post("/query", body)
        return [str(row["id"]) for row in answer["rows"]] if status == 200 else None

    def found_by_twin(self, condition: Any) -> set[str]:
        types = self.world.types_with_id
        return {str(row["id"]) for row in self.rows.values() if twin.matches(row, condition, types)}

    def key(self, row_id: int | str) -> bytes:
        key = uuid_key(row_id) if self.world.id_type == "uuid" and isinstance(row_id, str) else id_key(row_id)
        assert key is not None
        return key
