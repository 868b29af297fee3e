"""Random histories of writes, compared after each step with a dictionary that follows the documented rules."""

import random

import pytest

STEPS = 120
IDS = range(12)
KINDS = ("upsert", "columns", "patch", "delete", "delete_by_filter", "patch_by_filter", "conditional", "mixed")


class Model:
    """The documented rules, on a dictionary of rows without their nulls."""

    def __init__(self):
        self.rows = {}

    def upsert(self, row):
        self.rows[row["id"]] = {key: value for key, value in row.items() if value is not None}

    def patch(self, row):
        if row["id"] not in self.rows:
            return False
        merged = {**self.rows[row["id"]], **row}
        self.rows[row["id"]] = {key: value for key, value in merged.items() if value is not None}
        return True

    def matching(self, threshold):
        """Ids where `n` is less than the threshold; null is less than anything."""
        return [id_ for id_, row in self.rows.items() if row.get("n") is None or row["n"] < threshold]


def random_row(rng, id_):
    row = {"id": id_}
    if rng.random() < 0.8:
        row["n"] = rng.choice([None, *range(6)])
    if rng.random() < 0.6:
        row["s"] = rng.choice([None, "a", "b", "é"])
    if rng.random() < 0.4:
        row["tags"] = rng.choice([None, [], ["x"], ["x", "y"]])
    return row


def step(rng, model):
    """One request body and the counts its answer must have."""
    kind = rng.choice(KINDS)
    ids = rng.sample(IDS, rng.randint(1, 5))
    rows = [random_row(rng, id_) for id_ in ids]
    threshold = rng.randint(0, 6)
    if kind == "upsert":
        for row in rows:
            model.upsert(row)
        return {"upsert_rows": rows}, {"rows_upserted": len(rows)}
    if kind == "columns":
        for row in rows:
            model.upsert(row)
        columns = {key: [row.get(key) for row in rows] for key in ("id", "n", "s", "tags")}
        return {"upsert_columns": columns}, {"rows_upserted": len(rows)}
    if kind == "patch":
        return {"patch_rows": rows}, {"rows_patched": sum(model.patch(row) for row in rows)}
    if kind == "delete":
        for id_ in ids:
            model.rows.pop(id_, None)
        # Whether ids that did not exist are counted is not settled.
        return {"deletes": ids}, {}
    if kind == "delete_by_filter":
        hit = model.matching(threshold)
        for id_ in hit:
            del model.rows[id_]
        return {"delete_by_filter": ["n", "Lt", threshold]}, {"rows_deleted": len(hit)}
    if kind == "patch_by_filter":
        hit = model.matching(threshold)
        for id_ in hit:
            model.patch({"id": id_, "s": "patched", "tags": None})
        body = {"patch_by_filter": {"filters": ["n", "Lt", threshold], "patch": {"s": "patched", "tags": None}}}
        return body, {"rows_patched": len(hit)}
    if kind == "conditional":
        applied = 0
        for row in rows:
            stored = model.rows.get(row["id"])
            new = row.get("n")
            # `Lt` of a null value matches nothing; a stored null is less than any value.
            if stored is None or (new is not None and (stored.get("n") is None or stored["n"] < new)):
                model.upsert(row)
                applied += 1
        return {"upsert_rows": rows, "upsert_condition": ["n", "Lt", {"$ref_new": "n"}]}, {"rows_upserted": applied}
    hit = model.matching(threshold)
    for id_ in hit:
        del model.rows[id_]
    half = len(rows) // 2
    for row in rows[:half]:
        model.upsert(row)
    patched = sum(model.patch(row) for row in rows[half:])
    body = {"delete_by_filter": ["n", "Lt", threshold], "upsert_rows": rows[:half], "patch_rows": rows[half:]}
    return body, {"rows_deleted": len(hit), "rows_upserted": half, "rows_patched": patched}


@pytest.mark.parametrize("seed", range(6))
def test_random_histories_agree_with_the_documented_rules(api, ns, seed):
    rng = random.Random(seed)
    model = Model()
    api.write(
        ns,
        upsert_rows=[{"id": 0, "n": 1}],
        schema={"n": "int", "s": {"type": "string", "full_text_search": True, "filterable": True}, "tags": "[]string"},
    )
    model.upsert({"id": 0, "n": 1})
    for number in range(STEPS):
        body, counts = step(rng, model)
        answer = api.write(ns, **body)
        assert {key: answer[key] for key in counts} == counts, (number, body)
        found = {row["id"]: row for row in api.rows(ns, include_attributes=True)}
        assert found == model.rows, (number, body)
        threshold = rng.randint(0, 6)
        assert api.ids(ns, filters=["n", "Lt", threshold]) == sorted(model.matching(threshold)), (number, body)
        patched = sorted(id_ for id_, row in model.rows.items() if row.get("s") == "patched")
        assert sorted(api.ids(ns, rank_by=["s", "BM25", "patched"])) == patched, (number, body)
