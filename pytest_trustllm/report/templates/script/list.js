  // The list: a few elements, moved to the rows in view.
  const MARGIN = 6; // rows kept above and below those in view
  let shown = []; // items that match, in order
  let current = -1; // the chosen item
  let height = 40; // of a row
  let drawn = 0; // request for the next frame
  const pool = [];

  const keyOf = (row) => index.tasks[index.task[row]] + "/" + index.id[row];

  // How an item changed since the run that this one is compared with; nothing where they cannot be compared.
  function changeOf(row) {
    const before = index.statuses[index.before[row]], now = index.statuses[index.status[row]];
    if (before === undefined) return "";
    if (before === now) return "same";
    return { "passed missed": "worse", "missed passed": "better" }[`${before} ${now}`] ?? "other";
  }

  function changed(row) {
    const kind = changeOf(row), sign = { worse: "▼", better: "▲", other: "◆" }[kind];
    if (!sign) return null;
    const element = make("span", "flip " + kind, `${sign} ${kind === "other" ? "changed" : kind}`);
    element.title = `before: ${index.statuses[index.before[row]]}`;
    return element;
  }

  // Prompts of one task often begin alike: what tells this one from its neighbours comes first.
  function excerpt(row) {
    const { prompts, expected, reason, observed } = blocks[index.block[row]].columns, at = index.at[row];
    // an item whose model was not asked is told by what it is about
    const found = () => [expected?.[at], index.answer[row] ?? reason?.[at], observed?.[at]?.where].filter(Boolean).join(": ");
    const text = lastMessage(prompts?.[at]) ?? found();
    const near = [prompts?.[at - 1], prompts?.[at + 1]].filter(Boolean);
    const alike = near.length ? Math.min(...near.map((chats) => common(text, lastMessage(chats)))) : 0;
    const from = alike < 24 || alike >= text.length ? 0 : beginning(text.slice(0, alike));
    return (from ? "… " : "") +
      masked(text.slice(from, from + 400)).slice(0, 160).replace(/\s+/g, " ").replace(new RegExp(HIDDEN, "gu"), escape);
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
      make("span", "id", name(row)), make("span", "text", changed(row), " ", ready ? excerpt(row) : ""));
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
    delete detail.dataset.first;
    reveal(row);
    draw();
    remember();
    open(row);
    if (show && !matchMedia("(min-width: 60rem)").matches) detail.scrollIntoView();
  }
