"""`hevlayer metrics rules`: every alert of the catalog is in the file, and nothing else."""

import json
import re

from hevlayer.cli.main import main
from hevlayer.metrics import Metrics
from hevlayer.metrics.rules import alert_name, rule_file


def test_the_file_has_each_alert_once(tmp_path):
    target = tmp_path / "rules.yml"
    assert main(["metrics", "rules", "--output", str(target)]) == 0
    text = target.read_text()
    alerting = [each for each in Metrics().registry.declarations() if each.alert is not None]
    assert alerting
    named = re.findall(r'- alert: "(\w+)"', text)
    assert sorted(named) == sorted(alert_name(each.name) for each in alerting)
    for each in alerting:
        assert f"expr: {json.dumps(each.alert.expr)}\n        for: {json.dumps(each.alert.held_for)}\n" in text


def test_without_a_file_it_is_printed(capsys):
    assert main(["metrics", "rules"]) == 0
    assert capsys.readouterr().out == rule_file(Metrics().registry.declarations())


def test_a_file_that_cannot_be_written_is_named(tmp_path, capsys):
    assert main(["metrics", "rules", "--output", str(tmp_path / "none" / "rules.yml")]) == 1
    assert "rules.yml" in capsys.readouterr().err


def test_no_alert_has_no_group():
    quiet = [each for each in Metrics().registry.declarations() if each.alert is None]
    assert "name:" not in rule_file(quiet)
