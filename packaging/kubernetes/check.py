#!/usr/bin/env python3
"""What no schema says of the two ways to run it: that what is named is there, once and the same. Needs PyYAML.

Takes a folder with single.yaml and replicas.yaml as kubectl makes them, and leaves there what the operator's schemas and promtool are
to look at."""

import json
import pathlib
import sys

import yaml

HERE, WORK = pathlib.Path(__file__).parent, pathlib.Path(sys.argv[1])
# What a person makes or starts by hand.
BY_HAND = {"kustomization.yaml", "secret.example.yaml", "prepare.yaml"}
# How a volume names what is mounted.
NAMES = {"secret": ("Secret", "secretName"), "configMap": ("ConfigMap", "name"), "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName")}


def several(path):
    """The resources of a file, by kind and name."""
    return {(doc["kind"], doc["metadata"]["name"]): doc for doc in yaml.safe_load_all(path.read_text())}


for folder in ("base", "replicas"):
    said = yaml.safe_load((HERE / folder / "kustomization.yaml").read_text())
    listed = {*said["resources"], *(patch.get("path") for patch in said.get("patches", []))} - {"../base", None}
    files = {file.name for file in (HERE / folder).glob("*.yaml")} - BY_HAND
    assert listed == files, f"{folder}/kustomization.yaml and the folder differ: {listed ^ files}"

single, replicas = several(WORK / "single.yaml"), several(WORK / "replicas.yaml")
secrets = several(HERE / "base/secret.example.yaml") | several(HERE / "replicas/secret.example.yaml")
job = several(HERE / "replicas/prepare.yaml")["Job", "drain-mcp-prepare"]
pods = [("single", single, single["Deployment", "drain-mcp"]), ("replicas", replicas, replicas["Deployment", "drain-mcp"]), ("prepare", replicas, job)]
images = set()
for name, made, of in pods:
    pod = of["spec"]["template"]
    containers = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    images |= {container["image"] for container in containers}
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    mounted = {mount["name"] for container in containers for mount in container["volumeMounts"]}
    assert mounted == volumes.keys(), f"{name}: {mounted ^ volumes.keys()}"
    for how, (kind, key) in NAMES.items():
        for wanted in {(kind, volume[how][key]) for volume in volumes.values() if how in volume}:
            assert wanted in made | secrets, f"{name}: {wanted} is not there"
    # The Service sends agents to those that serve, and to no other.
    served = made["Service", "drain-mcp"]["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert served == (name != "prepare"), f"{name}: the Service's selector"
assert len(images) == 1, f"several images: {images}"

# $(POD_IP) is put in only where POD_IP stands before it.
env = [entry["name"] for entry in replicas["Deployment", "drain-mcp"]["spec"]["template"]["spec"]["containers"][0]["env"]]
assert env.index("POD_IP") < env.index("DRAIN_REPLICA_URL")
assert not any(kind == "PersistentVolumeClaim" for kind, _ in replicas), "a disk of the cluster"

docs = [single[kind, "drain-mcp"] for kind in ("ServiceMonitor", "PrometheusRule")]
(WORK / "docs.json").write_text(json.dumps(docs))
# The rules as the operator would hand them to Prometheus.
(WORK / "rules.yml").write_text(yaml.safe_dump(docs[1]["spec"]))
