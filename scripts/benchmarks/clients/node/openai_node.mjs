// The `openai` package for Node.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { ASKED, HELLO, KEY, MODEL, PIECES, SLOW, URL_, check, raises, run } from "./child.mjs";

const client = new OpenAI({ baseURL: `${URL_}/v1`, apiKey: KEY, maxRetries: 0 });
const messages = [{ role: "user", content: HELLO }];
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "weather", parameters } }];
const asked = [{ role: "user", content: ASKED }];

await run({
  plain: async () => {
    const chat = await client.chat.completions.create({ model: MODEL, messages });
    check(chat.choices[0].message.content, "no content");
    check((await client.responses.create({ model: MODEL, input: HELLO })).output_text, "no output text");
    const vectors = await client.embeddings.create({ model: MODEL, input: ["a", "b"] });
    check(vectors.data[1].embedding.length === 64, "no vectors");
  },
  stream: async () => {
    const chat = await client.chat.completions.stream({ model: MODEL, messages }).finalChatCompletion();
    check(chat.choices[0].message.content, "no content");
    const response = await client.responses.stream({ model: MODEL, input: HELLO }).finalResponse();
    check(response.output_text, "no output text");
  },
  tools: async () => {
    const chat = await client.chat.completions.create({ model: MODEL, messages: asked, tools });
    const message = chat.choices[0].message;
    check(message.tool_calls[0].function.arguments.includes("Paris"), "no call");
    const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "Rain" };
    const told = await client.chat.completions.create({ model: MODEL, messages: [...asked, message, result], tools });
    check(told.choices[0].message.content, "no answer after the result");
    const streamed = await client.chat.completions.stream({ model: MODEL, messages: asked, tools }).finalMessage();
    check(streamed.tool_calls[0].function.arguments.includes("Paris"), "no streamed call");
  },
  structured: async () => {
    const form = zodResponseFormat(z.object({ name: z.string(), age: z.number().int() }), "person");
    const chat = await client.chat.completions.parse({ model: MODEL, messages, response_format: form });
    check(chat.choices[0].message.parsed.name, "not parsed");
  },
  error: async () => {
    const ask = (more) => client.chat.completions.create({ model: MODEL, messages, ...more });
    await raises(() => ask({ model: "nobody" }), (error) => error instanceof OpenAI.NotFoundError);
    await raises(() => ask({ temperature: 9 }), (error) => error.param === "temperature");
  },
  abandoned: async () => {
    const chunks = await client.chat.completions.create({ model: SLOW, messages, stream: true });
    let count = 0;
    for await (const _ of chunks) if (++count === PIECES) break;
  },
});
