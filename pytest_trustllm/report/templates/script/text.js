  // Text of models and data sets reaches the page through these functions alone, and they set textContent.
  const LIMIT = 20000; // characters of one text that are shown at once
  const BLURRED = 1500; // characters of a hidden answer that are drawn, blurred
  const TONES = { passed: "good", missed: "warn", unscored: "quiet", error: "bad" };
  // What a reader would not see, or would see in the wrong order. Joiners (U+200C, U+200D) are part of scripts and emoji.
  const HIDDEN = /((?:\r(?!\n)|[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]|\p{Cs})+)/u;
  let mask = null; // matches personal data; the page brings the pattern, which is the terminal's

  function maskBy(patterns) {
    const kinds = Object.keys(patterns);
    if (!kinds.length) return;
    mask = new RegExp(kinds.map((kind) => `(?<${kind.replace("-", "_")}>${patterns[kind]})`).join("|"), "gu");
  }

  const kindOf = (groups) => Object.keys(groups).find((kind) => groups[kind] !== undefined).replace("_", "-");

  const masked = (text) => (mask ? text.replace(mask, (...args) => `[${kindOf(args.at(-1))}]`) : text);

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

  // Text in which personal data is behind a button each.
  function readable(text) {
    if (!mask) return visible(text);
    const parts = [];
    let end = 0;
    for (const match of text.matchAll(mask)) {
      parts.push(...visible(text.slice(end, match.index)), chip(match[0], kindOf(match.groups)));
      end = match.index + match[0].length;
    }
    return [...parts, ...visible(text.slice(end))];
  }

  function chip(text, kind) {
    const element = button(`[${kind}]`, () => element.replaceWith(...visible(text)), "chip");
    element.title = "Hidden. Click to show it.";
    return element;
  }

  function prose(text, kind) {
    const block = make("pre", "prose " + kind, ...readable(text.slice(0, LIMIT)));
    block.dir = "auto";
    if (text.length <= LIMIT) return block;
    const more = button(`Show all ${text.length.toLocaleString("en")} characters`, () => {
      block.replaceChildren(...readable(text));
      more.remove();
    });
    return make("div", "", block, more);
  }

  // An answer that may be harmful: what lies under the blur is neither read aloud nor reached by keyboard.
  function veiled(text, kind) {
    const block = make("pre", `prose ${kind} blurred`, ...visible(text.slice(0, BLURRED)));
    block.setAttribute("aria-hidden", "true");
    block.inert = true;
    const veil = make("div", "veil", block, button("Show this answer, which may be harmful", () => {
      const shown = prose(text, kind);
      veil.replaceWith(shown);
      shown.tabIndex = -1;
      shown.focus();
    }));
    return veil;
  }

  function number(value) {
    const shown = make("data", "", Number.isInteger(value) ? String(value) : value.toFixed(3));
    shown.value = shown.title = String(value);
    return shown;
  }

  const badge = (word) => make("span", "badge " + (TONES[word] ?? "quiet"), word);

  function button(label, action, className = "") {
    const element = make("button", className, label);
    element.type = "button";
    if (action) element.addEventListener("click", action);
    else element.disabled = true;
    return element;
  }
