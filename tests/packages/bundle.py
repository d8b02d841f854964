"""Starts an unpacked bundle as its manifest says, with what a person who fills in nothing gets, and speaks MCP to it."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

folder = pathlib.Path(sys.argv[1]).resolve()
manifest = json.loads((folder / "manifest.json").read_text())
assert (folder / manifest["server"]["entry_point"]).stat().st_mode & 0o111
config = manifest["server"]["mcp_config"]
fields = manifest["user_config"]


def filled(text):
    text = text.replace("${__dirname}", str(folder))
    for name, about in fields.items():
        text = text.replace("${user_config.%s}" % name, about.get("default", ""))
    assert "${" not in text, text
    return text


with tempfile.TemporaryDirectory() as home:
    env = {"HOME": home, "PATH": os.environ["PATH"]} | {name: filled(value) for name, value in config["env"].items()}
    command = [filled(config["command"]), *map(filled, config["args"])]
    server = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(number, method, params):
        server.stdin.write(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}) + "\n")
        server.stdin.flush()
        answer = json.loads(server.stdout.readline())
        assert answer["id"] == number, answer
        return answer["result"]

    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bundle", "version": "1"}}
    assert ask(1, "initialize", hello)["serverInfo"]["version"] == manifest["version"]
    server.stdin.write('{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')
    tools = [tool["name"] for tool in ask(2, "tools/list", {})["tools"]]
    assert "drain_chat" in tools and "drain_approve" in tools, tools
    balance = ask(3, "tools/call", {"name": "drain_balance", "arguments": {}})
    assert balance["structuredContent"]["code"] == "no_signer", balance
    server.stdin.close()
    assert server.wait(timeout=30) == 0
print(f"a bundle of {len(tools)} tools starts as its manifest says")
