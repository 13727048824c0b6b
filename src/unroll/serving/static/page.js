// Both halves of the page, and the token that some servers ask for.

import { onTokenWanted, setToken } from "./api.js";
import { startGenerate, write } from "./generate.js";
import { changed, startSentiment } from "./sentiment.js";

const form = document.getElementById("token-form");
const field = document.getElementById("token");

onTokenWanted((wasGiven) => {
  const isNew = form.hidden;
  form.hidden = false;
  document.getElementById("token-error").textContent = wasGiven ? "The server refuses this token." : "";
  if (isNew) field.focus();
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(field.value.trim());
  form.hidden = true;
  changed();
  write();
});

startSentiment();
startGenerate();
