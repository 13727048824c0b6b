// The server's REST interface, as the page uses it.

let token = sessionStorage.getItem("token") || "";
let askForToken = () => {};

export class Problem extends Error {
  constructor(status, detail, retryAfter) {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

export function onTokenWanted(listener) {
  askForToken = listener;
}

export function setToken(value) {
  token = value;
  sessionStorage.setItem("token", value);
}

export async function post(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The server does not answer. Is it still running?", 3);
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  if (response.status === 401) askForToken(Boolean(token));
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  throw new Problem(response.status, problem.detail || `The server answered ${response.status}.`, retryAfter);
}

// Server-sent events of a response, one after the other: [name, data].
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const [, name, data] = block.match(/^event: (.*)\ndata: (.*)$/s);
      yield [name, JSON.parse(data)];
    }
  }
}

export function percent(probability) {
  const value = 100 * probability;
  if (value > 0 && value < 0.1) return "< 0.1 %";
  if (value > 99.9 && value < 100) return "> 99.9 %";
  return `${value < 10 || value > 99 ? value.toFixed(1) : value.toFixed(0)} %`;
}

export function answeredBy(element, model) {
  element.textContent = `Answered by ${model.name}, version ${model.version}`;
  element.title = `digest ${model.digest}`;
}

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}
