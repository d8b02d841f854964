// The official OpenAI client of Node against the gateway: what changes for its user is the base URL and the key.
//
//     node openai.mjs pays|fails BASE_URL        the agent's token in OPENAI_API_KEY, the folder of node_modules in TOOLS
//
// `pays` asks in every way; `fails` asks once, and says which error the client threw: its own retries are left on.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const { default: OpenAI } = createRequire(`${process.env.TOOLS}/`)("openai");
const MODEL = "sim-small";
const HELLO = [{ role: "user", content: "Say hello" }];

async function pays(client) {
  const models = [];
  for await (const model of client.models.list()) models.push(model.id);
  assert.ok(models.includes(MODEL) && models.includes(`sim-llm/${MODEL}`), models.join());

  const answer = await client.chat.completions.create({ model: MODEL, messages: HELLO, max_tokens: 60 });
  assert.ok(answer.choices[0].message.content);
  assert.equal(answer.choices[0].finish_reason, "stop");
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  assert.ok(answer.usage.cost > 0 && answer.usage.cost < 0.01);

  const { data, response } = await client.chat.completions
    .create({ model: `sim-llm/${MODEL}`, messages: HELLO })
    .withResponse();
  assert.ok(Number(response.headers.get("x-drain-cost")) > 0);
  assert.equal(response.headers.get("x-drain-receipt"), data.drain.receipt);

  let [said, last] = ["", undefined];
  const long = [{ role: "user", content: "write 120 words" }];
  const stream = await client.chat.completions.create({
    model: MODEL,
    messages: long,
    stream: true,
    stream_options: { include_usage: true },
  });
  for await (const part of stream) {
    said += part.choices[0]?.delta.content ?? "";
    last = part;
  }
  assert.ok(said.split(/\s+/).length >= 100);
  assert.ok(last.usage.cost > 0 && last.choices.length === 0);

  const once = { headers: { "Idempotency-Key": "once" } };
  const first = await client.chat.completions.create({ model: MODEL, messages: HELLO }, once);
  const again = await client.chat.completions.create({ model: MODEL, messages: HELLO }, once);
  assert.equal(first.drain.receipt, again.drain.receipt);

  const refused = { NotFoundError: { model: "gpt-17" }, BadRequestError: { n: 2 } };
  for (const [name, wrong] of Object.entries(refused)) {
    await assert.rejects(client.chat.completions.create({ model: MODEL, messages: HELLO, ...wrong }), OpenAI[name]);
  }
  return "paid";
}

async function fails(client) {
  try {
    await client.chat.completions.create({ model: MODEL, messages: HELLO });
  } catch (error) {
    return `failed: ${error.status} ${error.code}`;
  }
  throw new Error("it was answered");
}

const [, , what, baseURL] = process.argv;
console.log(await { pays, fails }[what](new OpenAI({ baseURL })));
