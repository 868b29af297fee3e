"""Checks a filter's form and bounds before anything is asked for it. Types are the upstream's to judge. Pure.

Places are told as they stand in the body: `filters[1][0][2]`.
"""

from typing import Any

from hevlayer.errors import ValidationError

# As the upstream's own and the native engine's.
FILTER_DEPTH_MAX = 48
FILTER_VALUES_MAX = 65_536
PATTERNS_MAX = 100
PATTERN_BYTES_MAX = 4_096

_VALUE = frozenset({"Eq", "NotEq", "Lt", "Lte", "Gt", "Gte"})
_LIST = frozenset({"In", "NotIn", "ContainsAny", "NotContainsAny"})
_ELEMENT = frozenset({"Contains", "NotContains", "AnyLt", "AnyLte", "AnyGt", "AnyGte"})
_PATTERN = frozenset({"Glob", "NotGlob", "IGlob", "NotIGlob", "Regex", "Fuzzy"})
_TOKENS = frozenset({"ContainsAllTokens", "ContainsAnyToken", "ContainsTokenSequence"})
_WITH_OPTIONS = frozenset({"Fuzzy", "ContainsAllTokens", "ContainsAnyToken"})
OPERATORS = _VALUE | _LIST | _ELEMENT | _PATTERN | _TOKENS
_SHAPES = 'must be [attribute, operator, value], ["And" or "Or", [filters]] or ["Not", filter]'


def check_filters(filters: object, place: str = "filters") -> None:
    """Raises: ValidationError: names the place and the rule. Time and memory are bounded whatever comes."""
    stack: list[tuple[object, str, int]] = [(filters, place, 0)]
    values = patterns = 0
    while stack:
        node, at, depth = stack.pop()
        if depth > FILTER_DEPTH_MAX:
            raise ValidationError(f"{at}: filters are nested deeper than {FILTER_DEPTH_MAX} levels")
        if not isinstance(node, list) or not node:
            raise ValidationError(f"{at}: {_SHAPES}")
        if node[0] in ("And", "Or") and len(node) == 2:
            if not isinstance(node[1], list):
                raise ValidationError(f"{at}[1]: must be an array of filters")
            values += len(node[1])
            if values <= FILTER_VALUES_MAX:
                stack.extend((each, f"{at}[1][{index}]", depth + 1) for index, each in enumerate(node[1]))
        elif node[0] == "Not" and len(node) == 2:
            stack.append((node[1], f"{at}[1]", depth + 1))
        else:
            values += _check_leaf(node, at)
            patterns += node[1] in _PATTERN
        if values > FILTER_VALUES_MAX:
            raise ValidationError(f"{at}: a filter has at most {FILTER_VALUES_MAX} values")
        if patterns > PATTERNS_MAX:
            raise ValidationError(f"{at}: a filter has at most {PATTERNS_MAX} patterns")


def has_patterns(filters: list[Any]) -> bool:
    """Whether a checked filter has one that is tried value by value, which may take long however short it is."""
    stack: list[Any] = [filters]
    while stack:
        node = stack.pop()
        if node[0] in ("And", "Or") and len(node) == 2:
            stack.extend(node[1])
        elif node[0] == "Not" and len(node) == 2:
            stack.append(node[1])
        elif node[1] in _PATTERN:
            return True
    return False


def _check_leaf(node: list[Any], at: str) -> int:
    """The number of its values."""
    if not 3 <= len(node) <= 4 or not isinstance(node[0], str):
        raise ValidationError(f"{at}: {_SHAPES}")
    operator, value = node[1], node[2]
    if not isinstance(operator, str) or operator not in OPERATORS:
        raise ValidationError(f"{at}[1]: {str(operator)[:64]!r} is not an operator")
    if len(node) == 4 and (operator not in _WITH_OPTIONS or not isinstance(node[3], dict)):
        raise ValidationError(f"{at}[3]: {operator} takes no such options")
    if operator in _PATTERN:
        if not isinstance(value, str) or len(value.encode()) > PATTERN_BYTES_MAX:
            raise ValidationError(f"{at}[2]: {operator} takes a text of at most {PATTERN_BYTES_MAX} bytes")
    elif operator in _LIST and isinstance(value, list):
        if len(value) > FILTER_VALUES_MAX:
            raise ValidationError(f"{at}[2]: has {len(value)} values; a filter has at most {FILTER_VALUES_MAX}")
        for index, each in enumerate(value):
            if isinstance(each, list | dict):
                raise ValidationError(f"{at}[2][{index}]: must be a single value")
        return 1 + len(value)
    elif operator in _TOKENS and isinstance(value, list):
        return 1 + len(value)
    elif isinstance(value, list | dict):
        raise ValidationError(f"{at}[2]: {operator} takes a single value")
    return 1
