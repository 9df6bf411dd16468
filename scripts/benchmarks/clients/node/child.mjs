// What the children in Node share: where the endpoint is, and how a case is told.
export const URL_ = process.env.CLIENT_URL;
export const KEY = process.env.CLIENT_KEY;
export const MODEL = "mock";
export const SLOW = "slow";
export const HELLO = "Hello there";
export const ASKED = "What is the weather in Paris";
export const PIECES = 3;

export function check(holds, what) {
  if (!holds) throw new Error(what);
}

export async function raises(call, found) {
  try {
    await call();
  } catch (error) {
    check(found(error), `another error: ${error}`);
    return;
  }
  throw new Error("nothing was raised");
}

export async function run(cases) {
  for (const [name, test] of Object.entries(cases)) {
    let error = "";
    try {
      await test();
    } catch (caught) {
      console.error(caught);
      error = String(caught).slice(0, 600) || "failed";
    }
    console.log(JSON.stringify({ case: name, ok: !error, error }));
  }
}
