// Vercel's `ai` with its provider for OpenAI (chat and responses) and the one for compatible endpoints.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { ASKED, HELLO, KEY, MODEL, PIECES, SLOW, URL_, check, raises, run } from "./child.mjs";

const openai = createOpenAI({ baseURL: `${URL_}/v1`, apiKey: KEY });
const compatible = createOpenAICompatible({
  name: "fastserve",
  baseURL: `${URL_}/v1`,
  apiKey: KEY,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const models = { chat: (id) => openai.chat(id), responses: (id) => openai.responses(id), compatible: (id) => compatible(id) };
const weather = tool({
  description: "The weather of a city",
  inputSchema: z.object({ city: z.string() }),
  execute: async () => "Rain",
});
const ask = (model, more) => ({ model, prompt: HELLO, maxRetries: 0, ...more });

async function each(test) {
  for (const [name, model] of Object.entries(models)) {
    try {
      await test(model);
    } catch (error) {
      throw new Error(`${name}: ${error}`);
    }
  }
}

await run({
  plain: () => each(async (model) => check((await generateText(ask(model(MODEL)))).text, "no text")),
  stream: () =>
    each(async (model) => {
      let text = "";
      for await (const piece of streamText(ask(model(MODEL))).textStream) text += piece;
      check(text, "no text");
    }),
  tools: () =>
    each(async (model) => {
      const more = { prompt: ASKED, tools: { weather }, stopWhen: stepCountIs(3) };
      const result = await generateText(ask(model(MODEL), more));
      check(result.steps.some((step) => step.toolResults.length), "no result of a tool");
      const streamed = streamText(ask(model(MODEL), more));
      await streamed.consumeStream();
      check((await streamed.steps).some((step) => step.toolResults.length), "no streamed result of a tool");
    }),
  structured: () =>
    each(async (model) => {
      const output = Output.object({ schema: z.object({ name: z.string(), age: z.number().int() }) });
      check((await generateText(ask(model(MODEL), { output }))).output.name, "no object");
    }),
  error: () => each((model) => raises(() => generateText(ask(model("nobody"))), (e) => e.statusCode === 404)),
  abandoned: async () => {
    const leaving = new AbortController();
    let count = 0;
    try {
      const result = streamText(ask(openai.chat(SLOW), { abortSignal: leaving.signal, onError: () => {} }));
      for await (const _ of result.textStream) if (++count === PIECES) leaving.abort();
    } catch (error) {
      check(leaving.signal.aborted, `${error}`);
    }
  },
});
