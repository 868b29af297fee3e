"""`hevlayer metrics …`: the metric surface as files for other programs."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from hevlayer.cli.failures import sentence
from hevlayer.cli.options import Command, Option
from hevlayer.metrics import Metrics
from hevlayer.metrics.rules import rule_file
from hevlayer.settings import path


def _rules(values: Mapping[str, object]) -> int:
    text = rule_file(Metrics().registry.declarations())
    target = cast(Path | None, values["output"])
    if target is None:
        sys.stdout.write(text)
        return 0
    try:
        target.write_text(text)
    except OSError as error:
        print(f"hevlayer metrics rules: {sentence(error)}", file=sys.stderr)
        return 1
    return 0


RULES = Command(
    "metrics rules",
    "write the catalog's alerts as a Prometheus rule file",
    (Option("output", "LAYER_METRICS_RULES_FILE", path, "file to write; without it, standard output"),),
    _rules,
)
