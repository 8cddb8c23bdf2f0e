"use strict";
// Texts come from models: they are only ever set as text, never as markup.

const LABEL_KEYS = "123456789acdefghijklmnop";
const at = id => document.getElementById(id);
const seen = [];
let state = null;
let busy = false;
let ended = false;

function block(heading, text, kind) {
  const title = document.createElement("h2");
  title.textContent = heading;
  const body = document.createElement("pre");
  body.className = kind;
  body.dir = "auto";
  body.textContent = text;
  at("item").append(title, body);
}

function button(text, key, pressed, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.append(text, " ");
  const shown = document.createElement("kbd");
  shown.textContent = key;
  made.append(shown);
  made.setAttribute("aria-pressed", String(pressed));
  made.addEventListener("click", act);
  return made;
}

function show(next) {
  state = next;
  at("title").textContent = state.title;
  document.title = `${state.done} of ${state.of} · ${state.title}`;
  at("progress").textContent = `${state.done} of ${state.of} labelled`;
  at("bar").max = state.of;
  at("bar").value = state.done;
  at("item").replaceChildren();
  at("labels").replaceChildren();
  const open = state.number !== null;
  at("cannot").disabled = !open;
  at("back").disabled = seen.length === 0;
  if (!open) {
    block("Done", "All responses are labelled. Finish, or go back to change a label.", "done");
  } else {
    showItem();
  }
  document.documentElement.dataset.ready = String(state.number);
  at("item").focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

function showItem() {
  const several = state.exchanges.length > 1;
  state.exchanges.forEach(([prompt, response], index) => {
    const which = several ? ` ${index + 1}` : "";
    for (const [role, content] of prompt) {
      block(role === "user" ? `Prompt${which}` : `Prompt${which} (${role})`, content, "prompt");
    }
    block(`Response${which}`, response, "response");
  });
  if (state.expected !== null) block("Expected", state.expected, "expected");
  if (state.question !== null) block("What the judge is asked", state.question, "question");
  state.labels.forEach((label, index) => {
    const pressed = state.given && state.label === label;
    at("labels").append(button(label, LABEL_KEYS[index], pressed, () => give(label)));
  });
  at("cannot").setAttribute("aria-pressed", String(state.given && state.label === null));
}

async function ask(path, body) {
  const options = { cache: "no-store", credentials: "omit", redirect: "error" };
  if (body !== undefined) {
    options.method = "POST";
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  const reply = await fetch(path, options);
  const content = reply.headers.get("Content-Type").startsWith("application/json") ? await reply.json() : {};
  if (!reply.ok) throw new Error(content.error || `the command answered ${reply.status}`);
  return content;
}

// One request at a time: a key that is pressed twice must not label the next response too.
async function once(act) {
  if (busy || ended) return;
  busy = true;
  try {
    await act();
    at("problem").hidden = true;
  } catch (problem) {
    at("problem").textContent = `Not saved: ${problem.message}. Is the command still running?`;
    at("problem").hidden = false;
  } finally {
    busy = false;
  }
}

function give(label) {
  if (state === null || state.number === null) return;
  const number = state.number;
  once(async () => {
    const next = await ask("label", { number, label });
    seen.push(number);
    show(next);
  });
}

function back() {
  if (seen.length === 0) return;
  const number = seen[seen.length - 1];
  once(async () => {
    const before = await ask(`item?number=${number}`);
    seen.pop();
    show(before);
  });
}

function finish() {
  once(async () => {
    await ask("finish", {});
    ended = true;
    at("item").replaceChildren();
    block("Finished", "You can close this page. The same command continues where you left off.", "done");
    for (const made of document.querySelectorAll("button")) made.disabled = true;
    document.documentElement.dataset.ready = "finished";
  });
}

at("cannot").addEventListener("click", () => give(null));
at("back").addEventListener("click", back);
at("finish").addEventListener("click", finish);
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || state === null) return;
  const index = LABEL_KEYS.indexOf(event.key);
  if (event.key === "s") give(null);
  else if (event.key === "b") back();
  else if (event.key === "q") finish();
  else if (index >= 0 && index < state.labels.length) give(state.labels[index]);
});
once(async () => show(await ask("item")));
