// One message as an element: author, words, embeds, components, files.

import { avatar, bytes, h, moment, name } from "./dom.js";
import { markdown } from "./markdown.js";
import { lightbox, purchase } from "./dialogs.js";

const V2 = 1 << 15;
const TALLEST = 460; // pixels a single picture may be high
const STYLES = { 1: "primary", 2: "secondary", 3: "success", 4: "danger", 5: "link" };

export function messageElement(message, { names, person, act, entries, grouped }) {
  const author = person(message.author.id);
  const asked = message.interaction_metadata?.user;
  const ctx = { message, names, act };
  const body = h("div", { class: "body" }, [
    grouped ? null : h("div", { class: "byline" }, [
      name(author),
      author.bot && h("span", { class: "tag" }, "APP"),
      clock(message.timestamp),
    ]),
    message.loading
      ? h("p", { class: "thinking" }, h("i"), h("i"), h("i"), `${author.name} is thinking…`)
      : content(ctx),
    message.private && h("p", { class: "private" }, [
      "◉ Only you can see this · ",
      h("button", { class: "plain", onclick: () => act.dismiss(message) }, "Dismiss message"),
    ]),
  ]);
  const element = h("li", { class: "message", id: `m${message.id}`, tabIndex: -1 }, [
    message.command && asked && h("p", { class: "about" }, [
      avatar(person(asked.id), "tiny"), h("b", {}, person(asked.id).name), " used ",
      h("span", { class: "command" }, message.type === 23 ? message.command : `/${message.command}`),
    ]),
    message.reply_to && h("button", { class: "about", onclick: () => reveal(message.reply_to.id) }, [
      h("b", {}, person(message.reply_to.author).name), h("span", { class: "cut" }, plain(message.reply_to.text)),
    ]),
    grouped ? h("span", { class: "gutter" }, clock(message.timestamp, "t")) : avatar(author),
    body,
    entries.length > 0 && !message.private && h("button", {
      class: "apps icon", ariaLabel: "Apps for this message", title: "Apps", onclick: (event) => openMenu(event, message, entries, act),
    }, "⋯"),
  ]);
  element.classList.toggle("grouped", grouped);
  element.classList.toggle("mine-only", message.private);
  element.classList.toggle("pings", message.mentions.some((user) => user.id === names.me()));
  element.addEventListener("contextmenu", (event) => entries.length && !message.private && openMenu(event, message, entries, act));
  return element;
}

const plain = (text) => text.replace(/^-# /gm, "").replace(/[*`#~|]+|<[^>]*>/g, "").replace(/\s+/g, " ").trim();

function clock(stamp, style) {
  const date = new Date(stamp);
  const today = date.toDateString() === new Date().toDateString();
  return moment(date.getTime() / 1000, style ?? (today ? "t" : "f"));
}

export function reveal(id) {
  const target = document.getElementById(`m${id}`);
  target?.scrollIntoView({ block: "center", behavior: "smooth" });
  target?.animate([{ background: "rgb(139 155 255 / 0.2)" }, {}], 1500);
}

function openMenu(event, message, entries, act) {
  event.preventDefault();
  document.querySelector(".menu")?.remove();
  const opener = event.currentTarget;
  const close = () => { menu.remove(); opener.focus?.(); };
  const menu = h("div", { class: "menu", role: "menu" }, [
    h("p", {}, "Apps"),
    entries.map((entry) => h("button", { role: "menuitem", onclick: () => { close(); act.menu(message, entry.name); } }, entry.label)),
  ]);
  document.body.append(menu);
  const box = opener.getBoundingClientRect();
  const [x, y] = event.clientX ? [event.clientX, event.clientY] : [box.left, box.bottom];
  menu.style.left = `${Math.min(x, innerWidth - menu.offsetWidth - 8)}px`;
  menu.style.top = `${Math.min(y, innerHeight - menu.offsetHeight - 8)}px`;
  menu.addEventListener("keydown", (e) => {
    if (e.key === "Escape") close();
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[e.key];
    if (step) document.activeElement[step]?.focus?.();
  });
  menu.querySelector("button").focus();
  setTimeout(() => addEventListener("pointerdown", (e) => menu.contains(e.target) || menu.remove(), { once: true }));
}

function content(ctx) {
  const { message, names } = ctx;
  if (message.flags & V2) return message.components.map((part) => component(part, ctx));
  const pictures = message.attachments.filter((file) => file.width);
  const others = message.attachments.filter((file) => !file.width);
  return [
    message.content && markdown(message.content, names),
    pictures.length > 0 && gallery(pictures.map((file) => ({ media: file, description: file.description }))),
    others.map((file) => fileCard(file.filename, file.size, file.url)),
    message.embeds.map((embed) => embedElement(embed, names)),
    message.components.map((part) => component(part, ctx)),
  ];
}

function component(part, ctx) {
  const inner = () => (part.components ?? []).map((child) => component(child, ctx));
  switch (part.type) {
    case 1: return h("div", { class: "row" }, inner());
    case 2: return button(part, ctx);
    case 3: case 5: case 6: case 7: case 8: return menu(part, ctx);
    case 9: return h("div", { class: "section" }, h("div", {}, inner()), component(part.accessory, ctx));
    case 10: return markdown(part.content, ctx.names);
    case 11: return gallery([part], "thumbnail");
    case 12: return gallery(part.items);
    case 13: return fileCard(part.name ?? "file", part.size ?? 0, part.file.url);
    case 14: return h("hr", { class: `${part.divider === false ? "bare" : ""} ${part.spacing === 2 ? "wide" : ""}` });
    case 17: {
      const accent = part.accent_color;
      const style = accent || accent === 0 ? { "--accent": `#${accent.toString(16).padStart(6, "0")}` } : {};
      return h("div", { class: "container", style }, inner());
    }
    default: return h("p", { class: "small" }, `(component ${part.type})`);
  }
}

const emoji = (part) => part.emoji?.name && h("span", { class: "emoji" }, part.emoji.name);

function button(part, { message, act }) {
  const label = [emoji(part), part.label];
  if (part.style === 6) return shop_button(part.sku_id, message, act);
  if (part.style === 5) return h("a", { class: "button link", href: part.url, target: "_blank", rel: "noreferrer noopener" }, label, " ↗");
  return h("button", {
    class: `button ${STYLES[part.style]}`, disabled: part.disabled, data: { custom: part.custom_id },
    onclick: (event) => act.press(message, part.custom_id, [], event.currentTarget),
  }, label);
}

/** Name and price are those of the shop, not of the bot. */
function shop_button(id, message, act) {
  const item = act.shop(id);
  if (!item) return null;
  return h("button", { class: "button primary", onclick: () => purchase(item, () => act.buy(message, id)) }, `${item.name} · ${item.price}`);
}

function menu(part, { message, names, act }) {
  const options = part.type === 3 ? part.options.map((o) => ({ ...o, label: `${o.emoji?.name ? `${o.emoji.name} ` : ""}${o.label}` })) : names.choices(part.type);
  const several = (part.max_values ?? 1) > 1;
  const list = h("select", {
    class: "select", multiple: several, disabled: part.disabled, data: { custom: part.custom_id }, ariaLabel: part.placeholder ?? "Choose",
    size: several ? Math.min(6, options.length) : 0,
  }, [
    !several && h("option", { value: "", disabled: true, selected: !options.some((o) => o.default) }, part.placeholder ?? "Make a choice"),
    options.map((o) => h("option", { value: o.value, selected: o.default, title: o.description ?? "" }, o.description ? `${o.label} — ${o.description}` : o.label)),
  ]);
  const send = () => act.press(message, part.custom_id, [...list.selectedOptions].map((o) => o.value), list);
  if (!several) list.addEventListener("change", send);
  return several ? h("div", { class: "row" }, list, h("button", { class: "button secondary", onclick: send }, "Choose")) : list;
}

export function gallery(items, kind = "") {
  const pictures = items.map((item) => ({ url: item.media.url, alt: item.description ?? "", ...size(item.media) }));
  return h("div", { class: `gallery n${Math.min(items.length, 4)} ${kind}` }, items.map((item, index) => {
    const { width, height } = pictures[index];
    const image = h("img", {
      src: item.media.url, alt: item.description ?? "", width, height, decoding: "async",
      onload: () => {
        image.classList.add("here");
        if (items.length === 1 && !width) for (const [name, to] of Object.entries(shape(image.naturalWidth, image.naturalHeight))) image.parentElement?.style.setProperty(name, to);
      },
    });
    return h("button", {
      class: item.spoiler ? "picture covered" : "picture", ariaLabel: `Open image ${index + 1}`,
      // The first click on a spoiler uncovers it.
      onclick: ({ currentTarget: shown }) => shown.classList.contains("covered") ? shown.classList.remove("covered") : lightbox(pictures, index),
      style: items.length === 1 && width ? shape(width, height) : {},
    }, image);
  }));
}

const shape = (width, height) => ({ "aspect-ratio": `${width} / ${height}`, "--w": `${Math.min(width, (TALLEST * width) / height)}px` });

const size = (media) => (media.width ? { width: media.width, height: media.height } : {});

function fileCard(name, count, url) {
  return h("a", { class: "file", href: url, download: name }, [
    h("span", { class: "sheet", ariaHidden: "true" }), h("span", {}, h("b", {}, name), h("small", {}, bytes(count))), h("span", { class: "down" }, "↓"),
  ]);
}

function embedElement(embed, names) {
  const style = { "--accent": embed.color ? `#${embed.color.toString(16).padStart(6, "0")}` : "var(--line)" };
  return h("div", { class: "container embed", style }, [
    embed.title && h("h5", {}, embed.title),
    embed.description && markdown(embed.description, names),
    h("div", { class: "fields" }, (embed.fields ?? []).map((field) =>
      h("div", { class: field.inline ? "inline" : "" }, h("b", {}, field.name), markdown(field.value, names)))),
    embed.image && gallery([{ media: embed.image }]),
    embed.footer && h("p", { class: "small" }, embed.footer.text),
  ]);
}
