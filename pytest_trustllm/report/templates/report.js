"use strict";
// Shows the items. Text of models and data sets reaches the page through textContent alone.
(() => {
  const LIMIT = 20000; // characters of one text that are shown at once
  const MARGIN = 6; // rows kept above and below those in view
  const TONES = { passed: "good", missed: "warn", unscored: "quiet", error: "bad" };
  // What a reader would not see, or would see in the wrong order. Joiners (U+200C, U+200D) are part of scripts and emoji.
  const HIDDEN = /((?:\r(?!\n)|[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]|\p{Cs})+)/u;
  const $ = (id) => document.getElementById(id);
  const list = $("list"), room = $("room"), detail = $("detail"), query = $("query"), scope = $("scope"), status = $("status");

  // ---- reading the data ------------------------------------------------------------------------------------------

  const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;,=>?@^_`{|}~";
  const DIGIT = new Uint8Array(128);
  for (let i = 0; i < 85; i++) DIGIT[ALPHABET.charCodeAt(i)] = i;

  function bytes(text) {
    const whole = Math.ceil(text.length / 5), missing = whole * 5 - text.length;
    const out = new DataView(new ArrayBuffer(whole * 4));
    for (let i = 0, at = 0; i < whole; i++) {
      let word = 0;
      for (let end = at + 5; at < end; at++) word = word * 85 + (at < text.length ? DIGIT[text.charCodeAt(at)] : 84);
      out.setUint32(i * 4, word);
    }
    return new Uint8Array(out.buffer, 0, whole * 4 - missing);
  }

  async function unpack(element) {
    const stream = new Blob([bytes(element.textContent)]).stream().pipeThrough(new DecompressionStream("gzip"));
    const value = JSON.parse(await new Response(stream).text());
    element.remove();
    return value;
  }

  const sources = [...document.querySelectorAll("script.block")];
  const blocks = []; // number -> {columns, words}, once read
  const reading = []; // number -> promise

  function load(number) {
    reading[number] ??= unpack(sources[number]).then((columns) => {
      for (const key of ["responses", "verdicts"]) if (columns[key]) columns[key] = unfold(columns[key]);
      const count = columns.id.length, words = [];
      for (let i = 0; i < count; i++) words.push(searchable(columns, i));
      return (blocks[number] = { columns, words });
    });
    return reading[number];
  }

  function unfold({ sizes, columns }) {
    let at = 0;
    return sizes.map((size) => Array.from({ length: size }, () => take(columns, at++)));
  }

  function take(columns, at) {
    const record = {};
    for (const key in columns) record[key] = columns[key][at];
    return record;
  }

  function searchable(columns, at) {
    const parts = [columns.task[at] + "/" + columns.id[at], columns.answer?.[at], columns.reason?.[at]];
    for (const messages of columns.prompts?.[at] ?? []) for (const message of messages) parts.push(message[1]);
    for (const reply of columns.responses?.[at] ?? []) parts.push(reply.text, reply.error);
    for (const verdict of columns.verdicts?.[at] ?? []) parts.push(verdict.text, verdict.error);
    for (const score of Object.values(columns.also?.[at] ?? {})) parts.push(score.answer, score.reason);
    for (const value of Object.values(columns.group?.[at] ?? {})) parts.push(value);
    return parts.filter((part) => part != null).join("\n").toLowerCase();
  }

  function recordOf(row) {
    const columns = blocks[index.block[row]]?.columns;
    return columns ? take(columns, index.at[row]) : null;
  }

  // ---- showing text ----------------------------------------------------------------------------------------------

  function make(tag, className, ...children) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children.filter((child) => child != null));
    return element;
  }

  const escape = (hidden) =>
    Array.from(hidden, (char) => {
      const code = char.codePointAt(0);
      return code < 256 ? "\\x" + code.toString(16).padStart(2, "0") : "\\u{" + code.toString(16) + "}";
    }).join("");

  function visible(text) {
    return text.split(HIDDEN).map((part, i) => (i % 2 ? make("span", "control", escape(part)) : part));
  }

  // Every text of a model, a judge or a data set is shown by this one function.
  function prose(text, kind) {
    const block = make("pre", "prose " + kind, ...visible(text.slice(0, LIMIT)));
    block.dir = "auto";
    if (text.length <= LIMIT) return block;
    const more = make("button", "", `Show all ${text.length.toLocaleString("en")} characters`);
    more.type = "button";
    more.addEventListener("click", () => {
      block.replaceChildren(...visible(text));
      more.remove();
    });
    return make("div", "", block, more);
  }

  function number(value) {
    const shown = make("data", "", Number.isInteger(value) ? String(value) : value.toFixed(3));
    shown.value = shown.title = String(value);
    return shown;
  }

  const badge = (word) => make("span", "badge " + (TONES[word] ?? "quiet"), word);

  // ---- one item --------------------------------------------------------------------------------------------------

  function facts(pairs) {
    const rows = pairs.filter(([, value]) => value != null && value !== "");
    return make("dl", "", ...rows.map(([name, value]) => make("div", "", make("dt", "", name), make("dd", "", ...(
      typeof value === "string" ? visible(value) : [value])))));
  }

  const readingOf = (score) => [
    ["Value", typeof score.value === "number" ? number(score.value) : "not scored"],
    ["What the scorer read", score.answer],
    ["Why there is no score", score.applies === false ? null : score.reason],
    ["Does not apply", score.applies === false ? score.reason : null],
  ];

  const usage = (reply) => [
    reply.finish && `ended by ${reply.finish}`,
    reply.input_tokens != null && `${reply.input_tokens} tokens in`,
    reply.output_tokens != null && `${reply.output_tokens} tokens out`,
    reply.seconds != null && `${reply.seconds.toFixed(2)} s`,
    reply.cached && "from the store",
  ].filter(Boolean).join(" · ");

  function* conversation(record) {
    const prompts = record.prompts ?? [], replies = record.responses ?? [];
    if (!prompts.length && !replies.length) yield make("p", "missing", "Nothing was recorded of the conversation.");
    for (let i = 0; i < Math.max(prompts.length, replies.length); i++) {
      const which = Math.max(prompts.length, replies.length) > 1 ? ` ${i + 1}` : "";
      for (const [role, content] of prompts[i] ?? []) {
        yield make("h4", "", `Prompt${which}` + (role === "user" ? "" : ` (${role})`));
        yield prose(String(content), "prompt");
      }
      const reply = replies[i];
      if (!reply) continue;
      yield make("h4", "", `Response${which}`);
      if (typeof reply.text === "string") yield prose(reply.text, "response");
      if (reply.error != null || reply.text == null) yield make("p", "missing", ...visible(reply.error ?? "No response."));
      if (reply.text === "") yield make("p", "small", "The response is empty.");
      yield make("p", "small", usage(reply));
    }
  }

  function* verdicts(record) {
    for (const verdict of record.verdicts ?? []) {
      yield make("h4", "", `Verdict of the ${verdict.role} model`);
      if (typeof verdict.text === "string") yield prose(verdict.text, "verdict");
      if (verdict.number != null) yield make("p", "small", "number ", number(verdict.number));
      if (verdict.error != null) yield make("p", "missing", ...visible(verdict.error));
    }
  }

  function* readers(record) {
    for (const [task, score] of Object.entries(record.also ?? {})) {
      yield make("h4", "", `Also read by ${task}`);
      yield facts(readingOf(score));
    }
  }

  function raw(record) {
    const { observed, parity, fingerprint } = record;
    const text = JSON.stringify({ observed, parity, fingerprint }, null, 1);
    return make("details", "", make("summary", "", "What metrics read"), prose(text, "machine"));
  }

  function button(label, action, className = "") {
    const element = make("button", className, label);
    element.type = "button";
    if (action) element.addEventListener("click", action);
    else element.disabled = true;
    return element;
  }

  function tools(row) {
    const at = shown.indexOf(row);
    const link = make("a", "small", "link to this item");
    link.href = "#items?" + new URLSearchParams({ item: keyOf(row) });
    return make("div", "tools", badge(index.statuses[index.status[row]]),
      button("Previous", at > 0 ? () => choose(shown[at - 1], true) : null),
      button("Next", at >= 0 && at < shown.length - 1 ? () => choose(shown[at + 1], true) : null),
      button("Back to the list", () => list.focus(), "back"), link);
  }

  async function open(row) {
    await load(index.block[row]);
    if (row !== current) return; // another one was chosen meanwhile
    const record = recordOf(row);
    const groups = Object.entries(record.group ?? {}).map(([name, value]) => [name, String(value)]);
    detail.replaceChildren(tools(row), make("h3", "", ...visible(keyOf(row))), facts([...readingOf(record), ...groups]),
      ...conversation(record), ...verdicts(record), ...readers(record), raw(record));
    detail.scrollTop = 0;
  }

  // ---- the list --------------------------------------------------------------------------------------------------

  let index = null; // columns of all items
  let shown = []; // items that match, in order
  let current = -1; // the chosen item
  let height = 40; // of a row
  let drawn = 0; // request for the next frame
  const pool = [];

  const keyOf = (row) => index.tasks[index.task[row]] + "/" + index.id[row];

  // Prompts of one task often begin alike: what tells this one from its neighbours comes first.
  function excerpt(row) {
    const prompts = blocks[index.block[row]].columns.prompts, at = index.at[row];
    const text = lastMessage(prompts?.[at]) ?? index.answer[row] ?? "";
    const near = [prompts?.[at - 1], prompts?.[at + 1]].filter(Boolean);
    const alike = near.length ? Math.min(...near.map((chats) => common(text, lastMessage(chats)))) : 0;
    const from = alike < 24 || alike >= text.length ? 0 : beginning(text.slice(0, alike));
    return (from ? "… " : "") +
      text.slice(from, from + 160).replace(/\s+/g, " ").replace(new RegExp(HIDDEN, "gu"), escape);
  }

  // The line that the difference is on, if it began shortly before; else the word.
  function beginning(head) {
    const line = head.lastIndexOf("\n") + 1;
    return line && head.length - line <= 40 ? line : head.search(/\S*$/);
  }

  function lastMessage(chats) {
    const chat = chats?.at(-1);
    return chat?.length ? String(chat[chat.length - 1][1]) : null;
  }

  function common(one, other) {
    const end = Math.min(one.length, other?.length ?? 0, 2000);
    let at = 0;
    while (at < end && one[at] === other[at]) at++;
    return at;
  }

  function fill(element, at) {
    const row = shown[at], ready = Boolean(blocks[index.block[row]]);
    element.hidden = false;
    element.setAttribute("aria-selected", String(row === current));
    if (element.row === row && element.ready === ready && element.at === at) return;
    Object.assign(element, { row, ready, at });
    element.style.transform = `translateY(${at * height}px)`;
    element.setAttribute("aria-posinset", at + 1);
    element.setAttribute("aria-setsize", shown.length);
    element.replaceChildren(badge(index.statuses[index.status[row]]),
      make("span", "id", name(row)), make("span", "text", ready ? excerpt(row) : ""));
    if (!ready) load(index.block[row]).then(redraw);
  }

  // Within one task the number is enough; else the task tells rows apart.
  const name = (row) => (scope.value.includes("/") ? "" : index.tasks[index.task[row]].split("/").pop() + " ") + index.id[row];

  function draw() {
    drawn = 0;
    const first = Math.max(0, Math.floor(list.scrollTop / height) - MARGIN);
    const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / height) + MARGIN);
    while (pool.length < last - first) {
      const element = make("div", "row");
      element.id = "row-" + pool.length;
      element.setAttribute("role", "option");
      pool.push(element);
      room.append(element);
    }
    let active = "";
    pool.forEach((element, i) => {
      const at = first + ((i - (first % pool.length) + pool.length) % pool.length); // an element keeps its row on scrolling
      if (at < last) fill(element, at);
      else element.hidden = true;
      if (at < last && element.row === current) active = element.id;
    });
    if (active) list.setAttribute("aria-activedescendant", active);
    else list.removeAttribute("aria-activedescendant");
  }

  function redraw() {
    drawn ||= requestAnimationFrame(draw);
  }

  function measure() {
    const probe = make("div", "row");
    room.append(probe);
    height = probe.getBoundingClientRect().height || height;
    probe.remove();
    for (const element of pool) element.row = null;
    room.style.height = shown.length * height + "px";
    draw();
  }

  function reveal(row) {
    const at = shown.indexOf(row);
    if (at < 0) return;
    const top = at * height;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + height > list.scrollTop + list.clientHeight) list.scrollTop = top + height - list.clientHeight;
  }

  function choose(row, show) {
    current = row;
    reveal(row);
    draw();
    remember();
    open(row);
    if (show && !matchMedia("(min-width: 56rem)").matches) detail.scrollIntoView();
  }

  // ---- selecting -------------------------------------------------------------------------------------------------

  function matches(row, words) {
    if (scope.value && ![index.task[row], ...index.also[row]].some((t) => within(index.tasks[t], scope.value))) return false;
    if (status.value && index.statuses[index.status[row]] !== status.value) return false;
    return !words || blocks[index.block[row]].words[index.at[row]].includes(words);
  }

  const within = (task, scope) => task === scope || task.startsWith(scope + "/");

  let turn = 0;
  async function select() {
    const mine = ++turn, words = query.value.trim().toLowerCase();
    if (words) {
      for (let number = 0; number < sources.length; number++) {
        if (blocks[number]) continue;
        $("found").textContent = `Reading ${number + 1} of ${sources.length} parts …`;
        await load(number);
        if (mine !== turn) return;
      }
    }
    shown = [];
    for (let row = 0; row < index.id.length; row++) if (matches(row, words)) shown.push(row);
    $("found").textContent = `${shown.length.toLocaleString("en")} of ${index.id.length.toLocaleString("en")} items`;
    list.scrollTop = 0;
    measure();
    reveal(current);
  }

  // The address says what is selected, so that a link leads back to it.
  function remember() {
    const state = new URLSearchParams();
    if (scope.value) state.set("in", scope.value);
    if (status.value) state.set("status", status.value);
    if (query.value.trim()) state.set("q", query.value.trim());
    if (current >= 0) state.set("item", keyOf(current));
    history.replaceState(null, "", "#items" + (state.size ? "?" + state : ""));
  }

  async function recall() {
    if (!location.hash.startsWith("#items?")) return;
    const state = new URLSearchParams(location.hash.slice("#items?".length));
    setValue(scope, state.get("in"));
    setValue(status, state.get("status"));
    query.value = state.get("q") ?? "";
    const wanted = state.get("item");
    current = wanted === null ? -1 : index.id.findIndex((_, row) => keyOf(row) === wanted);
    $("items").scrollIntoView();
    await select();
    if (current >= 0) open(current);
  }

  function setValue(control, value) {
    control.value = value ?? "";
    if (control.selectedIndex < 0) control.value = "";
  }

  function option(value, label) {
    const element = make("option", "", label);
    element.value = value;
    return element;
  }

  function count(values) {
    const found = new Map();
    for (const value of values) found.set(value, (found.get(value) ?? 0) + 1);
    return found;
  }

  function offer() {
    const asked = count(index.task), read = count(index.also.flat());
    const dimensions = new Map();
    index.tasks.forEach((task, number) => {
      const dimension = task.split("/")[0];
      if (!dimensions.has(dimension)) dimensions.set(dimension, []);
      dimensions.get(dimension).push([task, (asked.get(number) ?? 0) + (read.get(number) ?? 0)]);
    });
    for (const [dimension, tasks] of dimensions) {
      const group = make("optgroup", "", option(dimension, `all of ${dimension}`),
        ...tasks.map(([task, items]) => option(task, `${task.slice(dimension.length + 1)} (${items.toLocaleString("en")})`)));
      group.label = dimension;
      scope.append(group);
    }
    const statuses = count(index.status);
    index.statuses.forEach((word, number) => {
      if (statuses.has(number)) status.append(option(word, `${word} (${statuses.get(number).toLocaleString("en")})`));
    });
  }

  // ---- start -----------------------------------------------------------------------------------------------------

  function move(event) {
    const at = shown.indexOf(current), page = Math.max(1, Math.floor(list.clientHeight / height) - 1), end = shown.length - 1;
    const target = {
      ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: end,
    }[event.key];
    if (event.key === "Enter" && current >= 0) detail.focus();
    else if (target === undefined || !shown.length) return;
    else choose(shown[Math.min(end, Math.max(0, target))], false);
    event.preventDefault();
  }

  function listen() {
    let typing = 0;
    query.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => select().then(remember), 120);
    });
    for (const control of [scope, status]) control.addEventListener("change", () => select().then(remember));
    document.querySelector(".controls").addEventListener("submit", (event) => event.preventDefault());
    $("reset").addEventListener("click", () => {
      query.value = scope.value = status.value = "";
      select().then(remember);
      query.focus();
    });
    list.addEventListener("scroll", redraw, { passive: true });
    list.addEventListener("keydown", move);
    room.addEventListener("click", (event) => {
      const element = event.target.closest(".row");
      if (element) choose(element.row, true);
    });
    addEventListener("hashchange", recall);
    addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => (d.open = true)));
    new ResizeObserver(measure).observe(list);
  }

  // The rest is read while nobody waits, so that the first search need not.
  async function readAhead() {
    const idle = window.requestIdleCallback ?? ((go) => setTimeout(go, 30));
    for (let number = 0; number < sources.length; number++) {
      if (!blocks[number]) await new Promise((go) => idle(go, { timeout: 500 })).then(() => load(number));
    }
    redraw();
  }

  async function start() {
    if (!window.DecompressionStream) throw new Error("this browser has no DecompressionStream; a version of 2023 or later has it");
    index = await unpack($("index"));
    offer();
    $("explorer").hidden = false;
    listen();
    await select();
    await recall();
    document.documentElement.dataset.ready = "list";
    await readAhead();
    document.documentElement.dataset.ready = "all";
  }

  start().catch((error) => {
    $("trouble").textContent = `The items cannot be shown: ${error.message}`;
    $("trouble").hidden = false;
  });
})();
