"""The release workflow is YAML of the expected form, and its shell parts are shell."""

import subprocess
import sys

import yaml

workflow = yaml.safe_load(open(sys.argv[1]))
jobs = workflow["jobs"]
names = [target["name"] for target in jobs["build"]["strategy"]["matrix"]["include"]]
assert names == ["linux-x86_64", "linux-aarch64", "macos-aarch64", "macos-x86_64"], names
assert workflow["permissions"] == {"contents": "read"} and jobs["release"]["needs"] == "build"
for job in jobs.values():
    for step in job["steps"]:
        if "run" in step:
            script = step["run"].replace("${{ matrix.name }}", "linux-x86_64")
            assert "${{" not in script, "no expression goes into a shell"
            subprocess.run(["bash", "-n"], input=script, text=True, check=True)
