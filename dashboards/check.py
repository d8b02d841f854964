#!/usr/bin/env python3
"""What promtool does not look at: each alert has a runbook entry and both tests, each panel says what it shows and in which
unit, and each metric that is asked for exists in docs/metrics.md. Needs PyYAML."""

import json
import pathlib
import re
import sys

import yaml

HERE = pathlib.Path(__file__).parent
wrong = []


def say(text):
    wrong.append(text)


def load(path):
    return yaml.safe_load((HERE / path).read_text())


def rules(path):
    return [rule for group in load(path)["groups"] for rule in group["rules"]]


# === what there is

rows = re.findall(r"^\| `(drain_\w+)` \| (\w+) \| ([^|]*)\|", (HERE.parent / "docs/metrics.md").read_text(), re.M)
metrics, labels = set(), {}
for name, kind, row in rows:
    of = set(re.findall(r"`(\w+)`", row)) | {"job", "instance"}
    for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
        metrics.add(name + suffix)
        labels[name + suffix] = of | ({"le"} if suffix == "_bucket" else set())
if not metrics:
    sys.exit("docs/metrics.md has no table of metrics")
recorded = {rule["record"] for rule in rules("rules/recording.yml")}
alerts = {rule["alert"]: rule for rule in rules("rules/alerts.yml")}
asked = set()


def query(where, expr):
    """Every name in a query is one of ours, and every label in its braces is one of the metric's."""
    bare = re.sub(r'"(\\.|[^"\\])*"', '""', expr)
    found = set(re.findall(r"\bdrain_\w+", re.sub(r"\w*:[\w:]+", "", bare)))
    levels = set(re.findall(r"[\w]+(?::\w+)+", bare))
    asked.update(found)
    if not found and not levels and "up{" not in bare and "ALERTS{" not in bare and not bare.startswith("vector("):
        say(f"{where}: asks for nothing of ours")
    for name in found - metrics:
        say(f"{where}: {name} is not in docs/metrics.md")
    for name in levels - recorded:
        say(f"{where}: {name} is not recorded")
    for name, inside in re.findall(r"\b(drain_\w+)\{([^}]*)\}", bare):
        for label in set(re.findall(r"(\w+)\s*[=!]", inside)) - labels.get(name, set()):
            say(f"{where}: {name} has no label {label}")


# === rules

runbook = (HERE / "runbook.md").read_text()
entries = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", runbook, re.M | re.S))
tests = [test["name"].split(": ", 2) for file in sorted(HERE.glob("tests/*.yml")) for test in yaml.safe_load(file.read_text())["tests"]]
tested = {(alert, what) for alert, what, _ in tests}
for file in sorted(HERE.glob("tests/*.yml")):
    for test in yaml.safe_load(file.read_text())["tests"]:
        alert, what, _ = test["name"].split(": ", 2)
        for case in test["promql_expr_test"]:
            if f'alertname="{alert}"' not in case["expr"] or bool(case["exp_samples"]) != (what == "fires"):
                say(f"test {test['name']}: does not look at what its name says")
for rule in rules("rules/recording.yml"):
    query(rule["record"], rule["expr"])
for name, rule in alerts.items():
    query(name, rule["expr"])
    if rule.get("labels", {}).get("severity") not in ("critical", "warning"):
        say(f"{name}: no severity")
    notes = rule.get("annotations", {})
    for note in ("summary", "description", "runbook_url"):
        if not notes.get(note):
            say(f"{name}: no {note}")
    if notes.get("runbook_url") != f"dashboards/runbook.md#{name.lower()}":
        say(f"{name}: the runbook's address is not its own")
    for part in ("**Money.**", "**Look at**", "**Do**", "**Harmless**"):
        if part not in entries.get(name, ""):
            say(f"{name}: the runbook does not say {part}")
    for what in ("fires", "silent"):
        if (name, what) not in tested:
            say(f"{name}: no test that it {'fires' if what == 'fires' else 'stays silent'}")
for name in entries.keys() - alerts.keys():
    say(f"runbook: {name} is no alert")

# === dashboards

uids = set()
for file in sorted(HERE.glob("grafana/*.json")):
    board = json.loads(file.read_text())
    uids.add(board["uid"])
    ids = [panel["id"] for panel in board["panels"]]
    if len(ids) != len(set(ids)):
        say(f"{file.name}: two panels have one id")
    for panel in board["panels"]:
        where = f"{file.name}: {panel['title']}"
        if panel["type"] == "row":
            continue
        if not panel.get("description"):
            say(f"{where}: no description")
        if not panel["fieldConfig"]["defaults"].get("unit"):
            say(f"{where}: no unit")
        if not panel["targets"]:
            say(f"{where}: no query")
        for name in re.findall(r"\bDrain\w+", panel.get("description", "")):
            if name not in alerts:
                say(f"{where}: {name} is no alert")
        for target in panel["targets"]:
            query(where, target["expr"])
            if target["datasource"]["uid"] != "${datasource}":
                say(f"{where}: not the data source of the variable")
for file in sorted(HERE.glob("grafana/*.json")):
    for link in json.loads(file.read_text())["links"]:
        if link["url"].removeprefix("/d/") not in uids:
            say(f"{file.name}: a link to {link['url']}, which is not there")
if len(uids) != 5:
    say(f"{len(uids)} dashboards of 5")
for name in sorted({row[0] for row in rows}):
    if not any(found.startswith(name) for found in asked):
        say(f"{name} is in no panel and no rule")

for text in wrong:
    print(text, file=sys.stderr)
print(f"{len(alerts)} alerts, {len(tests)} tests, {len(uids)} dashboards, {len(asked)} metrics asked for: {len(wrong)} wrong")
sys.exit(bool(wrong))
