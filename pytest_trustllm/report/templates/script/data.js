  // The page's elements, and the text that it carries compressed.
  const $ = (id) => document.getElementById(id);
  const list = $("list"), room = $("room"), detail = $("detail");
  const query = $("query"), scope = $("scope"), tag = $("tag"), group = $("group"), status = $("status"), change = $("change");

  let index = null; // columns of all items

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
    const parts = [columns.task[at] + "/" + columns.id[at], columns.answer?.[at], columns.reason?.[at], columns.expected?.[at]];
    for (const messages of columns.prompts?.[at] ?? []) for (const message of messages) parts.push(message[1]);
    for (const talk of columns.talks?.[at] ?? []) for (const message of talk) parts.push(message[1]);
    for (const reply of columns.responses?.[at] ?? []) parts.push(reply.text, reply.error, reply.reasoning, reply.unanswered);
    for (const verdict of columns.verdicts?.[at] ?? []) parts.push(verdict.text, verdict.error);
    for (const score of Object.values(columns.also?.[at] ?? {})) parts.push(score.answer, score.reason);
    for (const value of Object.values(columns.group?.[at] ?? {})) parts.push(value);
    return parts.filter((part) => part != null).join("\n").toLowerCase();
  }

  async function recordAt(block, at) {
    await load(block);
    return take(blocks[block].columns, at);
  }
