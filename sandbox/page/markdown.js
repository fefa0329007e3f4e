// The chat's markdown, as far as bots use it: text in, nodes out.

import { h, moment } from "./dom.js";

const INLINE = new RegExp(
  [
    "\\\\([^\\w\\s])", // 1 escape
    "(`+)([^`][\\s\\S]*?|)\\2", // 2, 3 code
    "\\*\\*([\\s\\S]+?)\\*\\*(?!\\*)", // 4 bold
    "__([\\s\\S]+?)__(?!_)", // 5 underline
    "~~([\\s\\S]+?)~~", // 6 strike
    "\\|\\|([\\s\\S]+?)\\|\\|", // 7 spoiler
    "\\*(?![\\s*])([^*]+?)\\*", // 8 italics
    "\\b_([^_]+?)_\\b", // 9 italics
    "\\[([^\\]\\n]+)\\]\\(<?(https?://[^\\s)>]+)>?\\)", // 10, 11 link
    "<(https?://[^\\s>]+)>", // 12 quiet link
    "(https?://[^\\s<>)\\]]+[^\\s<>)\\].,;:!?'\"])", // 13 bare link
    "<t:(-?\\d+)(?::([tTdDfFR]))?>", // 14, 15 moment
    "<@!?(\\d+)>", // 16 person
    "<@&(\\d+)>", // 17 role
    "<#(\\d+)>", // 18 channel
    "</([^:>]+):\\d+>", // 19 command
    "<a?:(\\w+):\\d+>", // 20 emoji
    "(@everyone|@here)", // 21
  ].join("|"),
);

export function inline(text, names) {
  const nodes = [];
  while (text) {
    const m = INLINE.exec(text);
    if (!m) break;
    if (m.index) nodes.push(text.slice(0, m.index));
    nodes.push(mark(m, names));
    text = text.slice(m.index + m[0].length);
  }
  if (text) nodes.push(text);
  return nodes;
}

function mark(m, names) {
  const inner = (part) => inline(part, names);
  if (m[1]) return m[1];
  if (m[2]) return h("code", {}, m[3].trim());
  if (m[4]) return h("strong", {}, inner(m[4]));
  if (m[5]) return h("u", {}, inner(m[5]));
  if (m[6]) return h("s", {}, inner(m[6]));
  if (m[7]) return h("button", { class: "spoiler", onclick: (e) => e.currentTarget.classList.add("open") }, inner(m[7]));
  if (m[8] || m[9]) return h("em", {}, inner(m[8] || m[9]));
  if (m[10]) return link(m[11], inner(m[10]), names);
  if (m[12] || m[13]) return link(m[12] || m[13], m[12] || m[13], names);
  if (m[14]) return moment(Number(m[14]), m[15]);
  if (m[16]) return h("span", { class: "mention" }, `@${names.person(m[16])}`);
  if (m[17]) return h("span", { class: "mention" }, `@${names.role(m[17])}`);
  if (m[18]) return h("span", { class: "mention" }, `#${names.channel(m[18])}`);
  if (m[19]) return h("button", { class: "mention", onclick: () => names.run(m[19]) }, `/${m[19]}`);
  if (m[20]) return `:${m[20]}:`;
  return h("span", { class: "mention" }, m[21]);
}

/** A link; one to a message of this Discord goes there. */
function link(url, text, names) {
  const place = /^https:\/\/discord\.com\/channels\/\d+\/(\d+)\/(\d+)$/.exec(url);
  const to = place && ((event) => { event.preventDefault(); names.open(place[1], place[2]); });
  return h("a", { href: url, target: "_blank", rel: "noreferrer noopener", onclick: to }, text);
}

export function markdown(text, names) {
  const blocks = [];
  // A fence may stand anywhere; what lies between fences is read line by line.
  const parts = text.split(/```(?:([\w+-]+)\n)?([\s\S]*?)```/);
  for (let i = 0; i < parts.length; i += 3) {
    blocks.push(...lines(i ? parts[i].replace(/^\n/, "") : parts[i], names));
    if (i + 2 < parts.length) blocks.push(h("pre", {}, h("code", {}, parts[i + 2].replace(/^\n|\n$/g, ""))));
  }
  return h("div", { class: "text" }, blocks);
}

function lines(text, names) {
  const nodes = [];
  let list = null;
  let paragraph = [];
  const flush = () => {
    if (paragraph.length) nodes.push(h("p", {}, inline(paragraph.join("\n"), names)));
    paragraph = [];
  };
  const rows = text.replace(/\n$/, "").split("\n");
  for (const row of rows) {
    const item = /^\s*(?:[-*]|(\d+)\.)\s+(.*)/.exec(row);
    const block = /^(#{1,3}|-#|>)\s+(.*)/.exec(row);
    if (!item) list = null;
    if (item) {
      flush();
      const tag = item[1] ? "ol" : "ul";
      if (list?.localName !== tag) nodes.push((list = h(tag, item[1] ? { start: Number(item[1]) } : {})));
      list.append(h("li", {}, inline(item[2], names)));
    } else if (block) {
      flush();
      const [tag, kind] = { "-#": ["p", "small"], ">": ["blockquote", ""] }[block[1]] ?? [`h${block[1].length + 2}`, ""];
      nodes.push(h(tag, { class: kind }, inline(block[2], names)));
    } else if (row.trim()) paragraph.push(row);
    else if (paragraph.length) flush();
  }
  flush();
  return nodes;
}
