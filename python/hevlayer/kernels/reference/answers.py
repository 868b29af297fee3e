"""What answers become, told from their trees."""

from hevlayer.kernels.reference.tree import Json, Pairs, RefusedError, elements, is_list, parse
from hevlayer.kernels.splice import RESERVED_PREFIX


def _without_reserved(value: Json) -> Json:
    if not isinstance(value, Pairs):
        return value
    return Pairs((name, inner) for name, inner in value if not name.startswith(RESERVED_PREFIX))


def strip_rows(tree: Json, *, nested: bool = False) -> Json:
    """The answer's tree without reserved keys in its rows."""
    if not isinstance(tree, Pairs):
        return tree
    out = Pairs()
    for name, value in tree:
        new = value
        if name in ("rows", "aggregation_groups") and is_list(value):
            new = [_without_reserved(row) for row in elements(value)]
        elif name == "results" and is_list(value) and not nested:
            new = [strip_rows(result, nested=True) for result in elements(value)]
        out.append((name, new))
    return out


def strip_schema(tree: Json, under: str | None) -> Json:
    """The schema's tree without reserved keys."""
    if under is None:
        return _without_reserved(tree)
    if not isinstance(tree, Pairs):
        return tree
    return Pairs((name, _without_reserved(value) if name == under else value) for name, value in tree)


def layer_results(tree: Json) -> Json:
    """The answer's tree with `results` beside its first array of `rows`."""
    if not isinstance(tree, Pairs) or any(name == "results" for name, _ in tree):
        return tree
    out = Pairs()
    done = False
    for name, value in tree:
        out.append((name, value))
        if name == "rows" and is_list(value) and not done:
            done = True
            out.append(("results", [_layer_row(row) for row in elements(value)]))
    return out


def _layer_row(row: Json) -> Json:
    if not isinstance(row, Pairs):
        return row
    out = Pairs()
    # Of duplicates the last counts, as it does for most readers.
    for key, name in (("id", "id"), ("$dist", "dist")):
        values = [value for found, value in row if found == key]
        if values:
            out.append((name, values[-1]))
    out.append(("attributes", Pairs(pair for pair in row if pair[0] not in ("id", "$dist"))))
    return out


def top_level(body: bytes, keys: list[str]) -> dict[str, Json]:
    """The trees of the named members. Raises: RefusedError."""
    tree = parse(body)
    if not isinstance(tree, Pairs):
        raise RefusedError("validation_error", "the body must be a JSON object")
    for key in keys:
        if sum(name == key for name, _ in tree) > 1:
            raise RefusedError("bad_json", f"duplicate field `{key}`")
    return {name: value for name, value in tree if name in keys}
