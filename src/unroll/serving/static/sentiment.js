// The review: its probability moves while one types, and the words that moved it are marked in the text itself.

import { Problem, answeredBy, element, percent, post } from "./api.js";

const SECONDS_TO_TYPE = 0.06;
const SECONDS_TO_PAUSE = 0.25; // before the words are looked at, which costs more
const SMALLEST_EFFECT = 0.1; // log-odds
const LARGE_EFFECT = 3;
const MOST_WORDS = 6;

const at = (id) => document.getElementById(id);
const review = at("review");
let marked = { text: "", marks: [] };
let request = new AbortController();
let timer = 0;
let retry = 0;

export function startSentiment() {
  review.addEventListener("input", changed);
  for (const chip of document.querySelectorAll(".chip")) {
    chip.addEventListener("click", () => {
      review.value = chip.textContent;
      changed();
    });
  }
  changed();
}

export function changed() {
  request.abort();
  clearTimeout(timer);
  clearTimeout(retry);
  moveMarks(review.value);
  const isEmpty = !review.value.trim();
  showError(isEmpty ? "The review is empty. Type a few words, or take an example." : "");
  if (isEmpty) {
    marked = { text: review.value, marks: [] };
    draw();
    hideAnswer();
    return;
  }
  request = new AbortController();
  const { signal } = request;
  timer = setTimeout(async () => {
    if (!(await ask(false, signal))) return;
    timer = setTimeout(() => ask(true, signal), 1000 * (SECONDS_TO_PAUSE - SECONDS_TO_TYPE));
  }, 1000 * SECONDS_TO_TYPE);
}

async function ask(explain, signal) {
  const text = review.value;
  try {
    const response = await post("v1/sentiment", { texts: [text], explain }, signal);
    const answer = await response.json();
    if (signal.aborted) return false;
    showError("");
    showVerdict(answer.predictions[0]);
    if (explain) showWords(text, answer.predictions[0]);
    answeredBy(at("sentiment-model"), answer.model);
    return true;
  } catch (error) {
    if (error.name === "AbortError") return false;
    if (!(error instanceof Problem)) throw error;
    if (error.status !== 401) showError(error.message);
    hideAnswer();
    if (error.retryAfter) retry = setTimeout(changed, 1000 * error.retryAfter);
    return false;
  }
}

function showError(message) {
  if (at("review-error").textContent !== message) at("review-error").textContent = message;
  review.setAttribute("aria-invalid", String(Boolean(message)));
}

function hideAnswer() {
  for (const id of ["scale", "bars", "moved"]) at(id).hidden = true;
  at("verdict").replaceChildren();
  at("spoken").textContent = "";
  at("words-note").textContent = "";
}

function showVerdict({ label, probability, probabilities }) {
  const names = Object.keys(probabilities);
  const isBinary = names.length === 2;
  const verdict = at("verdict");
  verdict.className = `verdict ${isBinary ? (label === names[1] ? "high" : "low") : ""}`;
  verdict.replaceChildren(element("strong", "", percent(probability)), ` ${label}`);
  at("scale").hidden = !isBinary;
  at("bars").hidden = isBinary;
  if (isBinary) {
    at("marker").style.left = `${100 * probabilities[names[1]]}%`;
    at("low").textContent = names[0];
    at("high").textContent = names[1];
  } else {
    at("bars").replaceChildren(...names.map((name) => bar(name, probabilities[name])));
  }
}

function bar(name, probability) {
  const item = element("li");
  const length = element("i");
  length.style.width = `${100 * probability}%`;
  item.append(element("span", "", name), length, element("span", "", percent(probability)));
  return item;
}

function showWords(text, { label, probabilities, tokens, not_explained: note }) {
  at("words-note").textContent = note || "";
  at("moved").hidden = !tokens;
  if (!tokens) return;
  const names = Object.keys(probabilities);
  const isBinary = names.length === 2;
  // of two classes, what speaks against one speaks for the other
  const [high, low] = isBinary ? [names[1], names[0]] : [label, `not ${label}`];
  const sign = isBinary && label === names[0] ? -1 : 1;
  const places = utf16Places(text);
  const effects = tokens.map((token) => ({ ...token, toward: sign * token.effect, size: Math.abs(token.effect) }));
  marked = {
    text,
    marks: effects
      .filter((token) => token.size >= SMALLEST_EFFECT || !token.known)
      .map((token) => ({ ...token, start: places[token.start], stop: places[token.stop] })),
  };
  draw();
  at("legend-high").textContent = `for ${high}`;
  at("legend-low").textContent = `for ${low}`;
  const strongest = effects.filter((token) => token.size >= SMALLEST_EFFECT).sort((a, b) => b.size - a.size);
  at("words").replaceChildren(...strongest.slice(0, MOST_WORDS).map((token) => row(token, high, low, label)));
  at("moved").hidden = strongest.length === 0;
  const words = strongest.slice(0, 3).map((token) => `${token.text}, for ${token.toward > 0 ? high : low}`);
  at("spoken").textContent = `${percent(probabilities[label])} ${label}. Moved most by: ${words.join("; ") || "no single word"}.`;
  if (!note && strongest.length === 0) at("words-note").textContent = "No single word moves it.";
}

function row(token, high, low, label) {
  const line = element("tr");
  const direction = element("td");
  const strength = element("span", `strength ${token.toward > 0 ? "for" : "against"}`);
  strength.style.width = `${Math.max(6, 80 * Math.min(1, token.size / (2 * LARGE_EFFECT)))}px`;
  direction.append(strength, token.toward > 0 ? high : low);
  line.append(element("td", "", token.text), direction, element("td", "", `${percent(token.probability_without)} ${label}`));
  return line;
}

// The server counts code points, JavaScript half of some.
function utf16Places(text) {
  const places = [0];
  for (const character of text) places.push(places[places.length - 1] + character.length);
  return places;
}

// Until the next answer, marks stay with the words that were not touched.
function moveMarks(text) {
  const before = marked.text;
  let head = 0;
  while (head < before.length && head < text.length && before[head] === text[head]) head += 1;
  let tail = 0;
  const most = Math.min(before.length, text.length) - head;
  while (tail < most && before[before.length - 1 - tail] === text[text.length - 1 - tail]) tail += 1;
  const shift = text.length - before.length;
  const marks = marked.marks.flatMap((mark) => {
    if (mark.stop <= head) return [mark];
    if (mark.start >= before.length - tail) return [{ ...mark, start: mark.start + shift, stop: mark.stop + shift }];
    return [];
  });
  marked = { text, marks };
  draw();
}

function draw() {
  const { text, marks } = marked;
  const parts = [];
  let done = 0;
  for (const mark of marks) {
    if (mark.start < done) continue;
    parts.push(text.slice(done, mark.start));
    const made = element("mark", mark.known ? (mark.toward > 0 ? "for" : "against") : "unknown", text.slice(mark.start, mark.stop));
    made.style.setProperty("--weight", Math.min(1, mark.size / LARGE_EFFECT));
    parts.push(made);
    done = mark.stop;
  }
  // a last line that is empty needs something to stand on
  parts.push(`${text.slice(done)}\u200b`);
  at("marks").replaceChildren(...parts);
}
