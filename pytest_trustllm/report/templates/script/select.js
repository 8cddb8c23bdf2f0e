  // What is selected, and the address that says so.
  function matches(row, words) {
    if (scope.value && ![index.task[row], ...index.also[row]].some((t) => within(index.tasks[t], scope.value))) return false;
    if (tag.value && ![index.task[row], ...index.also[row]].some((t) => tagged.get(tag.value)?.has(t))) return false;
    if (group.value && !index.group[row].some((g) => index.groups[g] === group.value)) return false;
    if (status.value && index.statuses[index.status[row]] !== status.value) return false;
    if (change.value && !fits(changeOf(row))) return false;
    return !words || blocks[index.block[row]].words[index.at[row]].includes(words);
  }

  const fits = (kind) => (change.value === "flipped" ? kind === "worse" || kind === "better" : kind === change.value);

  const within = (task, scope) => task === scope || task.startsWith(scope + "/");

  const tagged = new Map(); // tag -> numbers of its tasks
  const RANK = { worse: 0, better: 1, other: 2, same: 3, "": 3 };
  const URGENCY = { missed: 0, error: 1, unscored: 2, passed: 3 };
  const urgency = (row) => URGENCY[index.statuses[index.status[row]]];
  const comparing = () => index.others.length > 0 || index.before.some((before) => before !== null);

  let turn = 0;
  async function select() {
    const mine = ++turn, words = query.value.trim().toLowerCase();
    if (words) {
      for (let number = 0; number < index.blocks; number++) {
        if (blocks[number]) continue;
        $("found").textContent = `Reading ${number + 1} of ${index.blocks} parts …`;
        await load(number);
        if (mine !== turn) return;
      }
    }
    shown = [];
    for (let row = 0; row < index.id.length; row++) if (matches(row, words)) shown.push(row);
    const ranks = comparing() ? index.id.map((_, row) => RANK[changeOf(row)]) : null;
    shown.sort((one, other) => (ranks ? ranks[one] - ranks[other] : 0) || urgency(one) - urgency(other) || one - other);
    $("found").textContent = `${shown.length.toLocaleString("en")} of ${index.id.length.toLocaleString("en")} items`;
    list.scrollTop = 0;
    measure();
    if (current < 0 || isUnchosen()) showFirst();
    reveal(current);
  }

  // Until somebody chooses an item, the first one is open: the first failure. It is in no address and not on paper.
  const isUnchosen = () => "first" in detail.dataset;

  function showFirst() {
    if (!shown.length) return;
    current = shown[0];
    detail.dataset.first = "";
    draw();
    open(current);
  }

  // The address says what is selected, so that a link leads back to it.
  function remember() {
    const state = new URLSearchParams();
    if (scope.value) state.set("in", scope.value);
    if (tag.value) state.set("tag", tag.value);
    if (group.value) state.set("group", group.value);
    if (status.value) state.set("status", status.value);
    if (change.value) state.set("change", change.value);
    if (query.value.trim()) state.set("q", query.value.trim());
    if (current >= 0 && !isUnchosen()) state.set("item", keyOf(current));
    history.replaceState(null, "", "#items" + (state.size ? "?" + state : ""));
  }

  async function recall() {
    if (!location.hash.startsWith("#items?")) return;
    const state = new URLSearchParams(location.hash.slice("#items?".length));
    setValue(scope, state.get("in"));
    setValue(tag, state.get("tag"));
    offerGroups();
    setValue(group, state.get("group"));
    setValue(status, state.get("status"));
    setValue(change, state.get("change"));
    query.value = state.get("q") ?? "";
    const wanted = state.get("item");
    current = wanted === null ? -1 : index.id.findIndex((_, row) => keyOf(row) === wanted);
    delete detail.dataset.first;
    $("items").scrollIntoView();
    await select();
    if (current >= 0 && !isUnchosen()) open(current);
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

  // Groups of the chosen tasks; their names are the data's own.
  function offerGroups() {
    const found = new Set(), chosen = group.value;
    index.group.forEach((groups, row) => {
      if (!scope.value || within(index.tasks[index.task[row]], scope.value)) for (const number of groups) found.add(number);
    });
    const words = [...found].map((number) => index.groups[number]).sort((one, other) => one.localeCompare(other));
    group.replaceChildren(option("", "any group"), ...words.map((word) => option(word, word)));
    setValue(group, chosen);
    group.parentElement.hidden = !words.length;
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
    for (const [name, tasks] of index.tags) {
      tagged.set(name, new Set(tasks));
      tag.append(option(name, name));
    }
    tag.parentElement.hidden = !tagged.size;
    offerGroups();
    change.parentElement.hidden = !comparing();
    const statuses = count(index.status);
    index.statuses.forEach((word, number) => {
      if (statuses.has(number)) status.append(option(word, `${word} (${statuses.get(number).toLocaleString("en")})`));
    });
  }
