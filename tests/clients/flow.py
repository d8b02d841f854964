"""The whole flow with the Python SDK's client: find, open, pay twice, close, and every amount in the answers adds up.

    python flow.py REVISION stdio PROGRAM [ARGUMENT...]
    python flow.py REVISION http URL            the agent's token in AGENT_TOKEN

REVISION is the protocol's that both must agree on. What a tool answers is checked against its output schema by the SDK. SILENT
names a provider that never answers the next request: a call to it is cancelled.
"""

import os
import sys

import anyio
import httpx2
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

PATIENCE = 60


def units(text: str) -> int:
    """An amount in USDC as base units, without a float."""
    whole, _, part = text.partition(".")
    return int(whole) * 10**6 + int(part.ljust(6, "0"))


def server():
    """What the command line names, and what must stay open beside it."""
    kind, rest = sys.argv[2], sys.argv[3:]
    if kind == "stdio":
        return StdioServerParameters(command=rest[0], args=rest[1:], env=dict(os.environ)), None
    # The tests' servers are on this machine: no proxy of the environment.
    http = httpx2.AsyncClient(
        headers={"Authorization": f"Bearer {os.environ['AGENT_TOKEN']}"}, timeout=PATIENCE, trust_env=False
    )
    return streamable_http_client(rest[0], http_client=http), http


class Flow:
    def __init__(self, client: Client):
        self.client = client
        self.said: list[str] = []

    async def call(self, tool: str, **arguments):
        """Calls a tool; its result, and in `said` what it told meanwhile."""
        self.said = []

        async def tell(step: float, _total: float | None, message: str | None):
            assert step == len(self.said) + 1, f"{tool}: progress {step} after {self.said}"
            assert message, f"{tool}: progress without a text"
            self.said.append(message)

        result = await self.client.call_tool(tool, arguments, PATIENCE, tell)
        assert result.content and result.content[0].type == "text", f"{tool}: no text"
        return result

    async def ok(self, tool: str, **arguments) -> dict:
        result = await self.call(tool, **arguments)
        assert not result.is_error, f"{tool}: {result.content[0].text}"
        assert result.structured_content["play_money"] is True
        return result.structured_content

    async def fails(self, code: str, tool: str, **arguments):
        """A refusal is a tool's result that says what became of the money and what to do."""
        result = await self.call(tool, **arguments)
        assert result.is_error, f"{tool} did not fail"
        told = result.structured_content
        assert told["code"] == code, told
        assert told["message"] and told["next"] and told["retry"] in ("safe", "after_fix", "no"), told
        assert told["money"] == {"state": "not_spent"}, told

    async def lists(self):
        tools = await self.client.list_tools()
        names = {tool.name for tool in tools.tools}
        needed = {"drain_providers", "drain_open_channel", "drain_chat", "drain_cooperative_close"}
        assert needed <= names, names
        assert all(tool.output_schema and tool.description and tool.annotations for tool in tools.tools)
        assert tools.next_cursor is None
        prompts = (await self.client.list_prompts()).prompts
        assert {prompt.name for prompt in prompts} >= {"buy_one_answer", "close_everything"}
        for prompt in prompts:
            needed = {part.name: "Which is the capital of France?" for part in prompt.arguments or [] if part.required}
            got = await self.client.get_prompt(prompt.name, needed)
            text = got.messages[0].content.text
            assert "drain_" in text and all(value in text for value in needed.values()), text
        resources = await self.client.list_resources()
        for resource in resources.resources:
            read = await self.client.read_resource(resource.uri)
            assert read.contents[0].text and str(read.contents[0].uri) == str(resource.uri)
        assert {str(resource.uri) for resource in resources.resources} >= {"drain://wallet", "drain://providers"}

    async def money(self):
        before = units((await self.ok("drain_balance"))["usdc"])
        listed = await self.ok("drain_providers")
        assert "sim-llm" in {row[listed["columns"].index("id")] for row in listed["rows"]}
        info = await self.ok("drain_provider_info", provider="sim-llm")
        assert info["listing"]["id"] == "sim-llm" and "untrusted" in info["docs"]

        opened = await self.ok("drain_open_channel", provider="sim-llm", amount="0.5", duration="24h")
        assert len(self.said) >= 2, self.said
        channel, deposit = opened["channel"]["channel_id"], units(opened["channel"]["deposit"])
        assert deposit == 500_000 and opened["channel"]["state"] == "open"

        charged = 0
        for text in ("one", "two more words"):
            messages = [{"role": "user", "content": text}]
            answer = await self.ok("drain_chat", channelId=channel, model="sim-small", messages=messages)
            assert len(self.said) >= 1, self.said
            assert answer["outcome"] == "answered" and text in answer["answer"], answer
            charged += units(answer["payment"]["cost"])
            assert units(answer["payment"]["channel_left"]) == deposit - charged, answer

        status = await self.ok("drain_channel_status", channelId=channel)
        assert units(status["charged"]) == charged and status["requests"] == 2, status
        signed = units(status["signed"])
        assert 0 < charged <= signed <= deposit, status

        closed = await self.ok("drain_cooperative_close", channelId=channel)
        paid, refund = units(closed["paid"]), units(closed["refund"])
        assert deposit - paid == refund and charged <= paid <= signed, closed
        assert closed["channel"]["state"] == "closed"
        assert units((await self.ok("drain_balance"))["usdc"]) == before - paid

        messages = [{"role": "user", "content": "too late"}]
        await self.fails("channel_not_open", "drain_chat", channelId=channel, model="sim-small", messages=messages)
        await self.fails("invalid_argument", "drain_open_channel", provider="sim-llm", amount="half", duration="24h")

    async def cancels(self, silent: str):
        """A caller who leaves: the call ends for him at once, the request is on record, and the server serves on."""
        opened = await self.ok("drain_open_channel", provider=silent, amount="0.5", duration="24h")
        channel = opened["channel"]["channel_id"]
        told = anyio.Event()

        async def tell(_step: float, _total: float | None, _message: str | None):
            told.set()

        arguments = {"channelId": channel, "model": "sim/forecast", "messages": [{"role": "user", "content": "Berlin"}]}

        async def ask():
            await self.client.call_tool("drain_chat", arguments, PATIENCE, tell)
            raise AssertionError("the silent provider answered")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            with anyio.fail_after(PATIENCE):
                await told.wait()
            tasks.cancel_scope.cancel()
        status = await self.ok("drain_channel_status", channelId=channel)
        assert status["requests"] == 0 and units(status["charged"]) == 0, status
        assert units(status["signed"]) > 0 and units(status["in_flight"]) > 0, status


async def main():
    revision = sys.argv[1]
    # The SDK greets by `initialize`, or finds out whether the server speaks the generation without sessions.
    mode = "auto" if revision >= "2026" else "legacy"
    target, http = server()
    async with Client(target, mode=mode, read_timeout_seconds=PATIENCE) as client:
        assert client.protocol_version == revision, client.protocol_version
        assert client.server_info.name == "drain-mcp" and client.instructions
        flow = Flow(client)
        await flow.lists()
        await flow.money()
        if silent := os.environ.get("SILENT"):
            await flow.cancels(silent)
        print(f"done: {client.protocol_version}")
    if http:
        await http.aclose()


anyio.run(main)
