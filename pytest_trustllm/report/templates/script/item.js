  // One item, opened.
  function facts(pairs) {
    const rows = pairs.filter(([, value]) => value != null && value !== "");
    return make("dl", "", ...rows.map(([name, value]) => make("div", "", make("dt", "", name), make("dd", "", ...(
      typeof value === "string" ? readable(value) : [value])))));
  }

  const readingOf = (score) => [
    ["Value", typeof score.value === "number" ? number(score.value) : "not scored"],
    ["What the scorer read", score.answer],
    ["Expected", score.expected],
    ["Where it stands", score.observed?.where],
    ["Text that counted", score.observed?.counted],
    ["Why there is no score", score.applies === false ? null : score.reason],
    ["Does not apply", score.applies === false ? score.reason : null],
  ];

  const duration = (seconds) => (seconds < 0.995 ? `${Number((1000 * seconds).toPrecision(2))} ms` : `${seconds.toFixed(2)} s`);

  const usage = (reply) => [
    reply.finish && `ended by ${reply.finish}`,
    reply.input_tokens != null && `${reply.input_tokens} tokens in`,
    reply.output_tokens != null && `${reply.output_tokens} tokens out`,
    reply.reasoning_tokens != null && `${reply.reasoning_tokens} of them reasoning`,
    reply.seconds != null && duration(reply.seconds),
    reply.cached && "from the store",
  ].filter(Boolean).join(" · ");

  function* prompts(record, number) {
    const all = record.prompts ?? [];
    for (const [role, content] of all[number] ?? []) {
      const which = all.length > 1 ? ` ${number + 1}` : "";
      yield make("h4", "", `Prompt${which}` + (role === "user" ? "" : ` (${role})`));
      yield prose(String(content), "prompt");
    }
  }

  function thoughts(reply, hidden) {
    const tokens = reply.reasoning_tokens == null ? "" : ` (${reply.reasoning_tokens} tokens)`;
    return make("details", "reasoning", make("summary", "", `Reasoning${tokens}`), (hidden ? veiled : prose)(reply.reasoning, "thought"));
  }

  function* answer(reply, hidden) {
    if (reply.reasoning) yield thoughts(reply, hidden);
    if (typeof reply.text === "string") yield (hidden ? veiled : prose)(reply.text, "response");
    if (reply.error != null || reply.text == null) yield make("p", "missing", ...readable(reply.error ?? reply.unanswered ?? "No response."));
    if (reply.text === "") yield make("p", "small", "The response is empty.");
    yield make("p", "small", usage(reply));
  }

  const SPEAKERS = { user: "User", assistant: "Response", system: "System prompt", tool_call: "Tool call", tool: "Tool result" };

  // All that was said in one conversation; what follows the first answer may quote it, and is veiled with it.
  function* talk(messages, replies, hidden) {
    let answered = false;
    for (const [at, [role, content]] of messages.entries()) {
      const reply = role === "assistant" && replies.find((one) => one.at === at);
      answered ||= role !== "user" && role !== "system";
      yield make("h4", "", SPEAKERS[role] ?? role);
      if (reply) yield* answer(reply, hidden);
      else yield (hidden && answered ? veiled : prose)(String(content), answered ? "response" : "prompt");
    }
    const unanswered = replies.at(-1);
    if (unanswered && unanswered.text == null && !unanswered.calls?.length) {
      yield make("h4", "", "Response");
      yield* answer(unanswered, hidden);
    }
  }

  function* conversation(record, hidden) {
    if (record.talks?.length) {
      yield* talk(record.talks[0], record.responses ?? [], hidden);
      return;
    }
    const replies = record.responses ?? [], turns = Math.max(record.prompts?.length ?? 0, replies.length);
    if (!turns) yield make("p", "missing", "Nothing was recorded of the conversation.");
    for (let i = 0; i < turns; i++) {
      yield* prompts(record, i);
      if (!replies[i]) continue;
      yield make("h4", "", "Response" + (turns > 1 ? ` ${i + 1}` : ""));
      yield* answer(replies[i], hidden);
    }
  }

  // Asked several times: the prompts once, then what each try brought and how it was read.
  function* tries(record, hidden) {
    const turns = record.prompts?.length ?? 0, count = record.epochs.length, of = (all, at) => (all ?? []).filter((one) => one.epoch === at);
    for (let i = 0; i < turns && !record.talks?.length; i++) yield* prompts(record, i);
    for (const [at, score] of record.epochs.entries()) {
      const state = score.value == null ? "unscored" : score.met ? "passed" : "missed", read = score.answer ?? score.reason;
      yield make("h4", "", `Epoch ${at + 1} of ${count} `, badge(state));
      if (read != null) yield make("p", "small", "read: ", ...readable(String(read)));
      const replies = of(record.responses, at);
      if (record.talks?.[at]) yield* talk(record.talks[at], replies, hidden && !score.met);
      else for (const reply of replies) yield* answer(reply, hidden && !score.met);
      yield* verdicts(of(record.verdicts, at));
    }
  }

  // The same prompts to several models: the prompts once, the answers side by side.
  function* comparison(sides) {
    const now = sides.at(-1).record;
    for (let i = 0; i < (now.prompts?.length ?? 0) && !now.talks?.length; i++) yield* prompts(now, i);
    yield make("div", "sides", ...sides.map(({ name, state, record, hidden }) => make("section", "",
      make("h4", "", name, " ", badge(state)),
      record.answer == null ? null : make("p", "small", "read: ", ...readable(String(record.answer))),
      ...(record.talks ?? []).flatMap((messages, at) => [
        record.talks.length > 1 ? make("h4", "", `Epoch ${at + 1}`) : "",
        ...talk(messages, (record.responses ?? []).filter((one) => (one.epoch ?? 0) === at), hidden)]),
      ...(record.talks?.length ? [] : record.responses ?? []).flatMap((reply) => [
        reply.epoch == null ? "" : make("h4", "", `Epoch ${reply.epoch + 1}`), ...answer(reply, hidden)]))));
  }

  function* verdicts(all) {
    for (const verdict of all ?? []) {
      const which = verdict.epoch == null ? "" : `, epoch ${verdict.epoch + 1}`;
      yield make("h4", "", `Verdict of the ${verdict.role} model${which}`);
      if (typeof verdict.text === "string") yield prose(verdict.text, "verdict");
      if (verdict.number != null) yield make("p", "small", "number ", number(verdict.number));
      if (verdict.reasoning) yield thoughts(verdict, false);
      if (verdict.unanswered != null) yield make("p", "missing", ...readable(verdict.unanswered));
      if (verdict.error != null) yield make("p", "missing", ...readable(verdict.error));
    }
  }

  // The judge's question quotes the response; what it says besides is the task's.
  function* instructions(row, record) {
    const judged = new Set((record.verdicts ?? []).filter((one) => one.role === "judge").map(() => index.task[row]));
    for (const number of index.also[row]) judged.add(number);
    for (const number of judged) {
      const text = index.rubrics[number];
      if (text) yield make("details", "", make("summary", "", `What the judge was asked (${index.tasks[number]})`), prose(text, "machine"));
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

  const nodeOf = (row) => index.nodes[index.task[row]]?.replace("{}", () => index.id[row]);

  const addressOf = (row) => "#items?" + new URLSearchParams({ item: keyOf(row) });

  // A page from a disk has no clipboard in some browsers.
  async function copy(text, element) {
    const label = element.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = make("textarea", "unseen", text);
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      element.focus();
    }
    element.textContent = "Copied";
    $("copied").textContent = `Copied ${text}`;
    setTimeout(() => (element.textContent = label), 1500);
  }

  function tools(row) {
    const at = shown.indexOf(row), node = nodeOf(row);
    const copyNode = node && button("Copy pytest id", () => copy(node, copyNode));
    if (copyNode) copyNode.title = node;
    const copyLink = button("Copy link", () => copy(location.href.split("#")[0] + addressOf(row), copyLink));
    return make("div", "tools", badge(index.statuses[index.status[row]]), changed(row),
      button("Previous", at > 0 ? () => choose(shown[at - 1], true) : null),
      button("Next", at >= 0 && at < shown.length - 1 ? () => choose(shown[at + 1], true) : null),
      button("Back to the list", () => list.focus(), "back"), copyNode, copyLink);
  }

  function title(row) {
    const link = make("a", "", ...visible(keyOf(row)));
    link.href = addressOf(row);
    link.title = "Address of this item within the page";
    return make("h3", "", link);
  }

  async function sidesOf(row) {
    const own = { name: `${$("model").textContent} (this run)`, state: index.statuses[index.status[row]], hidden: index.hidden[row] };
    own.record = await recordAt(index.block[row], index.at[row]);
    const others = index.others.filter((other) => other.block[row] >= 0).map(async (other) => ({
      name: other.name,
      state: index.statuses[other.status[row]],
      hidden: other.hidden[row],
      record: await recordAt(other.block[row], other.at[row]),
    }));
    return [...(await Promise.all(others)), own];
  }

  async function open(row) {
    const sides = await sidesOf(row);
    if (row !== current) return; // another one was chosen meanwhile
    const { record, hidden } = sides.at(-1);
    const groups = Object.entries(record.group ?? {}).map(([name, value]) => [name, String(value)]);
    detail.replaceChildren(tools(row), title(row), facts([...readingOf(record), ...groups]),
      ...(sides.length > 1 ? comparison(sides) : record.epochs ? tries(record, hidden) : conversation(record, hidden)),
      ...(sides.length > 1 || !record.epochs ? verdicts(record.verdicts) : []), ...instructions(row, record), ...readers(record), raw(record));
    detail.scrollTop = 0;
  }
