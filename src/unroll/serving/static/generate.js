// The text: it comes as it is made, each character with its probability; the slider writes it anew with the same dice.

import { Problem, answeredBy, element, events, percent, post } from "./api.js";

const SECONDS_TO_SLIDE = 0.2;
const CHARACTERS_PER_SECOND = 140; // as fast as one can follow; the model is faster
const SECONDS_BEHIND = 2; // no text is held back longer
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const at = (id) => document.getElementById(id);
const shown = at("text");
let request = new AbortController();
let timer = 0;
let made = [];
let waiting = [];
let hasEnded = true;
let last = 0;
let chosen = -1;
let owed = 0;

export function startGenerate() {
  at("text-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (shown.ariaBusy === "true") stop();
    else write();
  });
  at("another").addEventListener("click", () => {
    at("seed").value = (Number(at("seed").value) + 1) % 1000000;
    write();
  });
  at("temperature").addEventListener("input", () => {
    at("temperature-value").textContent = Number(at("temperature").value).toFixed(2);
    clearTimeout(timer);
    timer = setTimeout(write, 1000 * SECONDS_TO_SLIDE);
  });
  shown.addEventListener("pointerover", (event) => choose(placeOf(event.target)));
  shown.addEventListener("click", (event) => choose(placeOf(event.target)));
  shown.addEventListener("pointerleave", () => choose(-1));
  shown.addEventListener("keydown", step);
  shown.addEventListener("blur", () => choose(-1));
  write();
}

export async function write() {
  request.abort();
  clearTimeout(timer);
  request = new AbortController();
  const { signal } = request;
  const prompt = at("prompt").value;
  begin(prompt);
  try {
    const response = await post("v1/generate", settings(prompt), signal);
    for await (const [name, data] of events(response)) {
      if (signal.aborted) return;
      if (name === "start") {
        answeredBy(at("text-model"), data.model);
        if (data.unknown.length) at("text-model").textContent += `. It never saw ${data.unknown.join(" ")}`;
      } else if (name === "text") {
        waiting.push(...data.characters);
      } else if (name === "error") {
        throw new Problem(500, data.detail, 0);
      }
    }
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    fail(error instanceof Problem ? error : new Problem(0, "The connection broke off.", 0));
  }
  if (!signal.aborted) hasEnded = true;
}

function settings(prompt) {
  return {
    prompt,
    length: Number(at("length").value),
    temperature: Number(at("temperature").value),
    seed: Number(at("seed").value),
    stream: true,
    probabilities: true,
  };
}

function begin(prompt) {
  made = [];
  waiting = [];
  chosen = -1;
  owed = 0;
  hasEnded = false;
  showError("");
  at("character").textContent = "";
  shown.replaceChildren(element("span", "prompt", prompt));
  shown.ariaBusy = "true";
  at("write").textContent = "Stop";
  last = performance.now();
  requestAnimationFrame(reveal);
}

function stop() {
  request.abort();
  waiting = [];
  hasEnded = true;
}

function fail(problem) {
  waiting = [];
  if (problem.status !== 401) showError(problem.message);
  if (problem.retryAfter) timer = setTimeout(write, 1000 * problem.retryAfter);
}

function showError(message) {
  at("text-error").textContent = message;
  at("prompt").setAttribute("aria-invalid", String(Boolean(message)));
}

function reveal(now) {
  if (shown.ariaBusy !== "true") return;
  const seconds = Math.min(0.1, Math.max(0, (now - last) / 1000));
  last = now;
  owed += seconds * Math.max(CHARACTERS_PER_SECOND, waiting.length / SECONDS_BEHIND);
  const number = calm.matches ? waiting.length : Math.min(waiting.length, Math.floor(owed));
  owed = Math.min(owed - number, 1);
  append(waiting.splice(0, number));
  if (hasEnded && waiting.length === 0) {
    shown.ariaBusy = "false";
    at("write").textContent = "Write";
    if (made.length) at("character").textContent = `${made.length} characters written.`;
    return;
  }
  requestAnimationFrame(reveal);
}

function append(characters) {
  const isAtEnd = shown.scrollTop + shown.clientHeight >= shown.scrollHeight - 8;
  for (const character of characters) {
    const span = element("span", surprise(character.probability), character.character);
    span.dataset.at = made.length;
    made.push(character);
    shown.append(span);
  }
  if (isAtEnd) shown.scrollTop = shown.scrollHeight;
}

function surprise(probability) {
  if (probability < 0.01) return "s4";
  if (probability < 0.05) return "s3";
  return probability < 0.2 ? "s2" : "";
}

function placeOf(target) {
  return target.dataset && target.dataset.at !== undefined ? Number(target.dataset.at) : -1;
}

function step(event) {
  const moves = { ArrowRight: chosen + 1, ArrowLeft: chosen - 1, Home: 0, End: made.length - 1 };
  if (!(event.key in moves) || made.length === 0) return;
  event.preventDefault();
  choose(Math.max(0, Math.min(made.length - 1, moves[event.key])));
  span(chosen).scrollIntoView({ block: "nearest" });
}

function choose(place) {
  if (place === chosen) return;
  if (chosen >= 0) span(chosen)?.classList.remove("chosen");
  chosen = place;
  if (place < 0 || !made[place]) {
    at("character").textContent = "";
    return;
  }
  span(place).classList.add("chosen");
  const { character, probability, likeliest } = made[place];
  const others = likeliest.filter((other) => other.character !== character).slice(0, 3);
  const parts = [element("kbd", "", name(character)), ` ${percent(probability)}`];
  if (others.length) parts.push(probability >= likeliest[0].probability ? ", then " : ", rather than ");
  others.forEach((other, index) => {
    parts.push(index ? ", " : "", element("kbd", "", name(other.character)), ` ${percent(other.probability)}`);
  });
  at("character").replaceChildren(...parts);
}

function span(place) {
  return shown.querySelector(`[data-at="${place}"]`);
}

function name(character) {
  return { " ": "space", "\n": "new line", "\t": "tab" }[character] || character;
}
