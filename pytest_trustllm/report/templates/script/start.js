  // What the reader does, and the beginning.
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
    scope.addEventListener("change", offerGroups);
    for (const control of [scope, tag, group, status, change]) control.addEventListener("change", () => select().then(remember));
    document.querySelector(".controls").addEventListener("submit", (event) => event.preventDefault());
    $("reset").addEventListener("click", () => {
      query.value = scope.value = tag.value = group.value = status.value = change.value = "";
      offerGroups();
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
    new ResizeObserver(measure).observe(list);
  }

  // Hashes are short on the screen; a click copies the whole.
  function offerCopies() {
    for (const hash of document.querySelectorAll("#run .hash, #audit .hash")) {
      const copying = button("copy", () => copy(hash.textContent, copying), "copy");
      copying.setAttribute("aria-label", `Copy ${hash.textContent.slice(0, 10)}…`);
      hash.after(copying);
    }
  }

  // The rest is read while nobody waits, so that the first search need not.
  async function readAhead() {
    const idle = window.requestIdleCallback ?? ((go) => setTimeout(go, 30));
    for (let number = 0; number < index.blocks; number++) {
      if (!blocks[number]) await new Promise((go) => idle(go, { timeout: 500 })).then(() => load(number));
    }
    redraw();
  }

  async function start() {
    if (!window.DecompressionStream) throw new Error("this browser has no DecompressionStream; a version of 2023 or later has it");
    index = await unpack($("index"));
    maskBy(await unpack($("patterns")));
    offer();
    $("explorer").hidden = false;
    listen();
    offerCopies();
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
