// Small tools for building the page: elements from calls, never from strings, so that nothing written runs.

export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "class") node.className = value;
    else if (key === "data") Object.assign(node.dataset, value);
    else if (key === "style") for (const [name, to] of Object.entries(value)) node.style.setProperty(name, to);
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key in node) node[key] = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(4).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const $ = (selector, root = document) => root.querySelector(selector);

export function avatar(person, size = "") {
  if (person.bot) return h("span", { class: `avatar bot ${size}`, ariaHidden: "true" });
  const letters = person.name.split(/\s+/).map((word) => word[0]).join("").slice(0, 2);
  return h("span", { class: `avatar ${size}`, style: { "--own": person.colour }, ariaHidden: "true" }, letters);
}

/** A name in the colour of the person's role. */
export function name({ name, name_colour: colour }) {
  return h("b", colour ? { class: "named", style: { "--named": colour } } : {}, name);
}

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  return count < 1024 ** 2 ? `${(count / 1024).toFixed(1)} KB` : `${(count / 1024 ** 2).toFixed(1)} MB`;
}

const spans = [["year", 31_557_600], ["month", 2_629_800], ["day", 86_400], ["hour", 3600], ["minute", 60], ["second", 1]];
let locale = "en-US";
const forms = {
  t: { timeStyle: "short" }, T: { timeStyle: "medium" }, d: { dateStyle: "short" }, D: { dateStyle: "long" },
  f: { dateStyle: "long", timeStyle: "short" }, F: { dateStyle: "full", timeStyle: "short" },
};

/** Write dates and times as they are written in this language from now on. */
export function dates_in(wanted) { locale = wanted; }

function fromNow(unix) {
  const seconds = Math.round(unix - Date.now() / 1000);
  const [unit, length] = spans.find(([, length]) => Math.abs(seconds) >= length) ?? spans.at(-1);
  return new Intl.RelativeTimeFormat(locale).format(Math.trunc(seconds / length), unit);
}

export function moment(unix, style = "f") {
  const date = new Date(unix * 1000);
  const full = new Intl.DateTimeFormat(locale, forms.F).format(date);
  const text = style === "R" ? fromNow(unix) : new Intl.DateTimeFormat(locale, forms[style] ?? forms.f).format(date);
  const node = h("time", { class: "moment", dateTime: date.toISOString(), title: full }, text);
  if (style === "R") node.dataset.counts = unix;
  return node;
}

// Every relative time on the page counts by itself.
setInterval(() => {
  for (const node of document.querySelectorAll("time[data-counts]")) {
    const text = fromNow(Number(node.dataset.counts));
    if (node.textContent !== text) node.textContent = text;
  }
}, 500);

export function toast(text) {
  const node = h("p", {}, text);
  $("#toasts").append(node);
  setTimeout(() => node.remove(), 6000);
}
