"""Random schemas, documents and filters, from one seeded source."""

import random
import uuid
from typing import Any

WORDS = ["", "a", "ab", "abc", "Abc", "ABC", "a/b", "a*b", "é", "Éa", "東京", "z", "axxbc", "a\nb"]
WORDS += ['a "b"', "a\\b", "\x01"]
UUIDS = [str(uuid.UUID(int=number)) for number in (0, 1, 7 << 64, (1 << 128) - 1, 0x0F8FAD5BD9CB469FA16570867728950E)]
MOMENTS = [
    "1970-01-01",
    "1969-12-31T23:59:59.999Z",
    "2024-02-29T12:00:00Z",
    "2024-02-29T12:00:00.123456Z",
    "2024-02-29T13:00:00+01:00",
    "2024-03-01 00:00:00",
]
POOLS: dict[str, list[Any]] = {
    "string": WORDS,
    "int": [-(2**63), -(2**53) - 1, -300, -1, 0, 1, 2, 250, 2**53 + 1, 2**63 - 1],
    "uint": [0, 1, 2, 255, 2**53 + 1, 2**63, 2**64 - 1],
    "float": [-1e300, -1.5, -0.0, 0, 0.1, 1, 2, 2.5, 16777217, 1e300],
    "bool": [True, False],
    "uuid": UUIDS,
    "datetime": MOMENTS,
}
PATTERNS = ["*", "a*", "?", "a?c", "[ab]*", "[!a]*", "{a,ab}*", "*b", "a/**", "**/b", "\\a*", "*é", "A*", "", "a[b-c]c"]
REGEXES = ["", "a", "^a", "b$", "a.c", "[A-Z]", "^$", "(ab|東)", "x+", "(?i)abc"]
SCALARS = ["Eq", "NotEq", "Lt", "Lte", "Gt", "Gte"]
ANYS = ["AnyLt", "AnyLte", "AnyGt", "AnyGte"]


class World:
    """A schema, and what may stand in rows and filters of it."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.id_type = self.dice.choice(["uint", "string", "uuid"])
        kinds = [kind for scalar in POOLS for kind in (scalar, f"[]{scalar}")]
        chosen = self.dice.sample(kinds, self.dice.randint(2, 6))
        self.types = {f"{kind.replace('[]', 'list_of_')}_a": kind for kind in chosen}
        self.types["text"] = "string"
        self.types["texts"] = "[]string"
        self.schema: dict[str, Any] = {name: {"type": kind, "filterable": True} for name, kind in self.types.items()}
        for name in ("text", "texts"):
            self.schema[name] |= {"regex": True, "fuzzy": True, "glob": True}
        # A column of few values far apart wants a dictionary, one of near values does not.
        self.pools = {kind: self.pool(kind) for kind in POOLS}

    def pool(self, kind: str) -> list[Any]:
        pool = POOLS[kind]
        if kind in ("int", "uint") and self.dice.random() < 0.5:
            return list(range(5))
        return self.dice.sample(pool, self.dice.randint(1, len(pool)))

    @property
    def types_with_id(self) -> dict[str, str]:
        return self.types | {"id": self.id_type}

    def ids(self, count: int) -> list[int | str]:
        if self.id_type == "uint":
            wide = self.dice.random() < 0.3
            return self.dice.sample(range(count * 3), count) if not wide else [2**64 - 1 - n * 7 for n in range(count)]
        if self.id_type == "string":
            return [f"{self.dice.choice(['', 'é', 'doc-'])}{number}" for number in self.dice.sample(range(999), count)]
        return [str(uuid.UUID(int=self.dice.getrandbits(128))) for _ in range(count)]

    def value(self, kind: str) -> Any:
        if kind.startswith("[]"):
            if self.dice.random() < 0.03:
                # Long lists, with values that stand twice and without.
                return self.dice.sample(range(500), 40) if "int" in kind else [self.value(kind[2:]) for _ in range(40)]
            return [self.value(kind[2:]) for _ in range(self.dice.choice([0, 1, 2, 3, 5]))]
        return self.dice.choice(self.pools[kind])

    def row(self, row_id: int | str) -> dict[str, Any]:
        row: dict[str, Any] = {"id": row_id}
        for name, kind in self.types.items():
            if self.dice.random() < 0.75:
                row[name] = self.value(kind)
            elif self.dice.random() < 0.5:
                row[name] = None
        return row

    def operand(self, kind: str) -> Any:
        """A value of the type, often one that some row has."""
        if kind.startswith("[]"):
            return [self.operand(kind[2:]) for _ in range(self.dice.choice([0, 1, 1, 2, 3]))]
        return self.dice.choice(POOLS[kind]) if self.dice.random() < 0.3 else self.value(kind)

    def condition(self, ids: list[int | str], depth: int = 3) -> list[Any]:
        dice = self.dice
        if depth and dice.random() < 0.45:
            parts = [self.condition(ids, depth - 1) for _ in range(dice.choice([0, 1, 2, 2, 3]))]
            return dice.choice([["And", parts], ["Or", parts], ["Not", self.condition(ids, depth - 1)]])
        if dice.random() < 0.15:
            return self.id_condition(ids)
        name, kind = dice.choice(list(self.types.items()))
        scalar = kind.removeprefix("[]")
        if scalar == "string" and dice.random() < 0.4:
            return self.text_condition(name)
        listed = [self.operand(scalar) for _ in range(dice.choice([0, 1, 2, 3, 6]))]
        if kind != scalar:
            return dice.choice(
                [
                    [name, dice.choice(["Eq", "NotEq"]), dice.choice([None, self.operand(kind)])],
                    [
                        name,
                        dice.choice(["Contains", "NotContains"]),
                        dice.choice([None, *listed, self.operand(scalar)]),
                    ],
                    [name, dice.choice(["ContainsAny", "NotContainsAny", "In", "NotIn"]), listed],
                    [name, dice.choice(["In", "NotIn"]), self.operand(scalar)],
                    [name, dice.choice(ANYS), dice.choice([None, self.operand(scalar), self.operand(scalar)])],
                ]
            )
        return dice.choice(
            [
                [name, dice.choice(SCALARS), dice.choice([None, self.operand(kind), self.operand(kind)])],
                [name, dice.choice(SCALARS), self.operand(kind)],
                [name, dice.choice(["In", "NotIn"]), listed],
                [name, dice.choice(["In", "NotIn"]), self.operand(kind)],
            ]
        )

    def text_condition(self, name: str) -> list[Any]:
        dice = self.dice
        if name in ("text", "texts") and dice.random() < 0.5:
            if dice.random() < 0.5:
                return [name, "Regex", dice.choice(REGEXES)]
            rules = [{"min_query_chars": 3, "distance": 0}, {"min_query_chars": 6, "distance": 1}]
            params: dict[str, Any] = {"max_edit_distance": dice.sample(rules, dice.randint(1, 2))}
            if dice.random() < 0.5:
                params["case_sensitive"] = dice.random() < 0.5
            return [name, "Fuzzy", dice.choice([*WORDS, "abcxxb", "axxxbc"]), params]
        return [name, dice.choice(["Glob", "NotGlob", "IGlob", "NotIGlob"]), dice.choice(PATTERNS)]

    def id_condition(self, ids: list[int | str]) -> list[Any]:
        dice = self.dice
        one = dice.choice([*ids, *self.ids(1)])
        some = dice.sample(ids, min(len(ids), 4)) + self.ids(1)
        if self.id_type == "string" and dice.random() < 0.2:
            return ["id", dice.choice(["Glob", "NotGlob", "IGlob"]), dice.choice(["*1", "doc-*", "é?", "DOC*"])]
        return dice.choice(
            [
                ["id", dice.choice(SCALARS), dice.choice([None, one, one, one])],
                ["id", dice.choice(["In", "NotIn"]), some],
            ]
        )

    def broken(self, condition: list[Any]) -> Any:
        """The condition with one part of it replaced by something that may not belong there."""
        dice = self.dice
        strange: list[Any] = [None, 1, -1, 1.5, "a", "2024-01-01", True, [], ["a"], [1], [None], {}, {"a": 1}, [[]]]
        if condition and condition[0] in ("And", "Or", "Not") and dice.random() < 0.7:
            if condition[0] == "Not":
                return ["Not", self.broken(condition[1])]
            if condition[1]:
                at = dice.randrange(len(condition[1]))
                return [condition[0], [*condition[1][:at], self.broken(condition[1][at]), *condition[1][at + 1 :]]]
        out = list(condition)
        place = dice.randrange(len(out))
        names = ["Eq", "AnyGt", "Contains", "Glob", "Regex", "In", "Fuzzy", "nope", "text", "id", *self.types]
        out[place] = dice.choice(strange) if dice.random() < 0.6 else dice.choice(names)
        return dice.choice([out, out, out, out[:-1], [*out, {}]])
