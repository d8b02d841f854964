#!/usr/bin/env python3
"""server.json of a release: the committed one with the owner, the version, and one package for each bundle, with its hash.

Usage: release.py OWNER VERSION BUNDLE.mcpb... > server.json
       release.py --check
"""

import copy
import hashlib
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent


def released(owner, version, bundles):
    text = (HERE / "server.json").read_text().replace("OWNER", owner)
    server = json.loads(text)
    server["version"] = version
    [model] = server["packages"]
    server["packages"] = []
    for bundle in bundles:
        package = copy.deepcopy(model)
        name = pathlib.Path(bundle).name
        package["identifier"] = f"https://github.com/{owner}/drain-mcp/releases/download/v{version}/{name}"
        package["version"] = version
        package["fileSha256"] = hashlib.sha256(pathlib.Path(bundle).read_bytes()).hexdigest()
        server["packages"].append(package)
    return server


def check(server):
    """What the registry asks of an entry (its schema of 2025-12-11), as far as this one uses it."""
    assert re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", server["name"]) and len(server["name"]) <= 200
    assert 1 <= len(server["description"]) <= 100, len(server["description"])
    assert 1 <= len(server["title"]) <= 100
    assert re.fullmatch(r"\d+\.\d+\.\d+", server["version"])
    assert set(server["repository"]) >= {"url", "source"}
    allowed = {"registryType", "identifier", "version", "fileSha256", "transport", "environmentVariables"}
    for package in server["packages"]:
        assert set(package) == allowed, set(package) ^ allowed
        assert package["registryType"] == "mcpb" and package["transport"] == {"type": "stdio"}
        assert "mcp" in package["identifier"] and package["identifier"].startswith("https://github.com/")
        assert package["version"] == server["version"]
        assert re.fullmatch(r"[a-f0-9]{64}", package["fileSha256"])
        for variable in package["environmentVariables"]:
            assert set(variable) <= {"name", "description", "isRequired", "format", "isSecret", "default", "choices"}
            assert variable.get("format", "string") in ("string", "number", "boolean", "filepath")
            secret = any(word in variable["name"] for word in ("KEY", "PASSWORD", "TOKEN", "RPC_URL"))
            assert variable.get("isSecret", False) == secret, variable["name"]


def consistent(server):
    """One version everywhere, and no setting that the program does not know."""
    manifest = json.loads((HERE / "mcpb" / "manifest.json").read_text())
    cargo = (HERE.parent / "Cargo.toml").read_text()
    version = re.search(r'\[workspace\.package\]\s+version = "([^"]+)"', cargo)[1]
    assert server["version"] == manifest["version"] == version, (server["version"], manifest["version"], version)
    page = (HERE.parent / "docs" / "configuration.md").read_text()
    env = manifest["server"]["mcp_config"]["env"]
    names = list(env) + [variable["name"] for variable in server["packages"][0]["environmentVariables"]]
    for name in names:
        assert f"`{name}`" in page, name
    fields = manifest["user_config"]
    assert sorted(env.values()) == sorted("${user_config.%s}" % field for field in fields)
    for field, about in fields.items():
        secret = any(word in field for word in ("key", "password", "rpc_url")) and field != "keystore"
        assert about.get("sensitive", False) == secret, field


if sys.argv[1:] == ["--check"]:
    committed = json.loads((HERE / "server.json").read_text())
    check(committed)
    consistent(committed)
    check(released("someone", committed["version"], [HERE / "server.json"]))
else:
    owner, version, *bundles = sys.argv[1:]
    entry = released(owner, version, bundles)
    check(entry)
    json.dump(entry, sys.stdout, indent=2)
    print()
