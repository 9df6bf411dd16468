// What the page asks the server. A sign-in that ended is told to the page once, whoever notices it.
let ended = () => {};
export const onEnded = (call) => { ended = call; };

export class Problem extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function answered(answer) {
  if (answer.status === 401) ended();
  if (answer.ok) return answer;
  let message = `${answer.status}`;
  try { message = (await answer.json()).error.message; } catch { /* no JSON */ }
  throw new Problem(answer.status, message);
}

export async function get(path) {
  return (await answered(await fetch(`/dashboard/api${path}`))).json();
}

export async function post(path, body) {
  return (await send(path, body)).json();
}

export async function send(path, body, signal) {
  const headers = { 'content-type': 'application/json' };
  return answered(await fetch(`/dashboard/api${path}`, { method: 'POST', headers, body: JSON.stringify(body), signal }));
}

/* The events of a streamed answer: [name, data as JSON]. */
export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split(/\r?\n\r?\n/);
    rest = parts.pop();
    for (const part of parts) {
      const lines = part.split(/\r?\n/);
      const name = lines.find((line) => line.startsWith('event: '));
      const data = lines.filter((line) => line.startsWith('data: ')).map((line) => line.slice(6)).join('\n');
      if (data && data !== '[DONE]') yield [name ? name.slice(7) : 'message', JSON.parse(data)];
    }
  }
}

/* The live stream: calls `on[topic](data)`; `lost(true)` while the server cannot be reached. */
export function live(topics, on, lost) {
  const source = new EventSource(`/dashboard/api/stream?topics=${topics.join(',')}`);
  for (const topic of topics) source.addEventListener(topic, (event) => on[topic](JSON.parse(event.data)));
  source.addEventListener('ended', () => { source.close(); ended(); });
  source.onopen = () => lost(false);
  source.onerror = () => {
    lost(true);
    if (source.readyState === EventSource.CLOSED) get('/session').catch(() => {});
  };
  return () => source.close();
}
