"""The official OpenAI client of Python against the gateway: what changes for its user is the base URL and the key.

    python openai.py pays|fails BASE_URL        the agent's token in OPENAI_API_KEY

`pays` asks in every way; `fails` asks once, and says which error the client raised: its own retries are left on.
"""

import os
import sys

# This file has the package's name: its own folder is none to import from.
sys.path = [path for path in sys.path if os.path.abspath(path or ".") != os.path.dirname(os.path.abspath(__file__))]

import httpx2  # noqa: E402
import openai  # noqa: E402

MODEL = "sim-small"
HELLO = [{"role": "user", "content": "Say hello"}]


def pays(client: openai.OpenAI):
    models = [model.id for model in client.models.list()]
    assert MODEL in models and f"sim-llm/{MODEL}" in models, models

    answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=60)
    assert answer.choices[0].message.content and answer.choices[0].finish_reason == "stop", answer
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens, answer.usage
    assert 0 < answer.usage.cost < 0.01, answer.usage

    raw = client.chat.completions.with_raw_response.create(model=f"sim-llm/{MODEL}", messages=HELLO)
    assert raw.headers["x-drain-receipt"] and float(raw.headers["x-drain-cost"]) > 0, raw.headers
    assert raw.parse().drain["receipt"] == raw.headers["x-drain-receipt"]

    said, last = "", None
    long = [{"role": "user", "content": "write 120 words"}]
    options = {"include_usage": True}
    for part in client.chat.completions.create(model=MODEL, messages=long, stream=True, stream_options=options):
        said += part.choices[0].delta.content or "" if part.choices else ""
        last = part
    assert len(said.split()) >= 100 and last.usage.cost > 0 and not last.choices, last

    once = {"Idempotency-Key": "once"}
    first = client.chat.completions.create(model=MODEL, messages=HELLO, extra_headers=once)
    again = client.chat.completions.create(model=MODEL, messages=HELLO, extra_headers=once)
    assert first.drain["receipt"] == again.drain["receipt"], (first, again)

    for wrong, error in [
        ({"model": "gpt-17"}, openai.NotFoundError),
        ({"n": 2}, openai.BadRequestError),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, openai.BadRequestError),
    ]:
        try:
            client.chat.completions.create(**{"model": MODEL, "messages": HELLO, **wrong})
        except error as refused:
            assert refused.body["message"], refused
        else:
            raise AssertionError(f"{wrong} was answered")
    return "paid"


def fails(client: openai.OpenAI):
    try:
        client.chat.completions.create(model=MODEL, messages=HELLO)
    except openai.APIStatusError as error:
        return f"failed: {error.status_code} {error.body['code']}"
    raise AssertionError("it was answered")


work = {"pays": pays, "fails": fails}[sys.argv[1]]
# The tests' servers are on this machine: no proxy of the environment.
with httpx2.Client(trust_env=False) as http:
    print(work(openai.OpenAI(base_url=sys.argv[2], http_client=http)))
