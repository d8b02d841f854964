#!/usr/bin/env python3
"""Writes base/prometheusrule.yaml from dashboards/rules. `--check` says whether it is what is checked in."""

import pathlib
import sys

HERE = pathlib.Path(__file__).parent
RULES = HERE.parent.parent / "dashboards/rules"
HEAD = """\
# Written by generate.py from dashboards/rules.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: drain-mcp
  namespace: drain-mcp
  labels: { app.kubernetes.io/name: drain-mcp }
spec:
  groups:
"""

text = HEAD
for name in ("recording.yml", "alerts.yml"):
    _, groups = (RULES / name).read_text().split("\ngroups:\n")
    text += "".join(f"  {line}\n" if line else "\n" for line in groups.rstrip("\n").split("\n"))
path = HERE / "base/prometheusrule.yaml"
if "--check" not in sys.argv:
    path.write_text(text)
elif not path.exists() or path.read_text() != text:
    sys.exit("prometheusrule.yaml is not what generate.py writes")
