// The page: what the person can see, kept true by events from the server, and what they do, sent to it.

import { $, avatar, dates_in, h, name, toast } from "./dom.js";
import { Composer, take_drops } from "./composer.js";
import { form } from "./dialogs.js";
import { messageElement, reveal } from "./message.js";

const state = { about: null, messages: new Map(), notes: [], channel: null, live: null, pending: new Map(), unread: new Set() };
let composer = null;

// -- names --

const person = (id) => state.about.people.find((one) => one.id === id) ?? { id, name: "Somebody", colour: "#888", roles: [] };
const here = () => state.about.channels.find((channel) => channel.id === state.channel) ?? state.about.channels[0];
const names = {
  me: () => state.about.me,
  person: (id) => person(id).name,
  role: (id) => state.about.roles.find((role) => role.id === id)?.name ?? "role",
  channel: (id) => state.about.channels.find((channel) => channel.id === id)?.name ?? "channel",
  place: (channel) => (channel.name ? `#${channel.name}` : `@${state.about.bot.name}`),
  run: (path) => composer.run(path),
  open: (channel, message) => open(channel, message),
  choices: (kind) => [
    ...(kind === 5 || kind === 7 ? state.about.people.map((one) => ({ label: one.name, value: one.id, person: one })) : []),
    ...(kind === 6 || kind === 7 ? state.about.roles.map((role) => ({ label: role.name, value: role.id })) : []),
    ...(kind === 8 ? state.about.channels.filter((c) => c.name).map((c) => ({ label: `#${c.name}`, value: c.id })) : []),
  ],
};

// -- to the server --

async function send(what, body, files = {}) {
  const data = new FormData();
  data.set("body", JSON.stringify({ as: state.about.me, channel: here().id, ...body }));
  for (const [name, list] of Object.entries(files)) for (const file of list) data.append(name, file, file.name);
  const response = await fetch(`/act/${what}`, { method: "POST", body: data }).catch(() => null);
  const answer = response?.headers.get("content-type")?.includes("json") ? await response.json() : { error: refused(response) };
  if (answer.error && what !== "modal" && what !== "buy") toast(answer.error);
  if (answer.interaction) wait_for(answer.interaction, what);
  return answer;
}

const refused = (response) => (response ? `The demo did not take this: ${response.status} ${response.statusText}` : "The demo is not running any more.");

const act = {
  shop: (id) => state.about.shop.find((item) => item.id === id),
  buy: async (message, sku) => (await send("buy", { message: message.id, sku })).error,
  menu: (message, name) => send("menu", { message: message.id, name }),
  dismiss: (message) => (message.local ? drop_note(message.id) : send("dismiss", { message: message.id })),
  press: async (message, custom_id, values, control) => {
    control.classList.add("busy");
    const answer = await send("component", { message: message.id, custom_id, values });
    if (answer.interaction) state.pending.get(answer.interaction)?.push(() => control.classList.remove("busy"));
    else control.classList.remove("busy");
    if (!state.pending.has(answer.interaction)) control.classList.remove("busy");
  },
};

/** Until the bot answers, the page says so; after three seconds without an answer it says that instead. */
function wait_for(id, what) {
  if (state.answered?.delete(id)) return;
  const undo = [];
  state.pending.set(id, undo);
  if (what === "command" || what === "menu") {
    const note = { id: `wait-${id}`, channel: here().id };
    state.notes.push(note);
    undo.push(() => { state.notes = state.notes.filter((one) => one !== note); draw_notes(); });
    setTimeout(draw_notes, 250);
  }
}

function settle(id) {
  if (!state.pending.has(id)) (state.answered ??= new Set()).add(id);
  for (const undo of state.pending.get(id) ?? []) undo();
  state.pending.delete(id);
}

function drop_note(id) { state.notes = state.notes.filter((note) => note.id !== id); draw_notes(); }

// -- from the server --

function connect(as = sessionStorage.getItem("as") ?? "") {
  state.live?.close();
  const live = (state.live = new EventSource(`/live?as=${as}`));
  const on = (kind, handle) => live.addEventListener(kind, (event) => handle(JSON.parse(event.data)));
  on("about", (about) => {
    const changed = state.about?.me !== about.me;
    const other_language = state.about && state.about.locale !== about.locale;
    state.about = about;
    dates_in(about.locale);
    if (!here() || !about.channels.some((channel) => channel.id === state.channel)) state.channel = about.channels[0].id;
    draw_frame();
    if (changed || other_language || !composer) start_composer();
    if (other_language && !changed) draw_messages(); // for the dates in them
  });
  on("messages", (messages) => {
    state.messages = new Map(messages.map((message) => [message.id, message]));
    draw_messages();
  });
  on("message", (message) => {
    state.messages.set(message.id, message);
    if (message.channel_id === here().id) draw_message(message);
    else if (!state.unread.has(message.channel_id)) { state.unread.add(message.channel_id); draw_frame(); }
  });
  on("gone", ({ id }) => { state.messages.delete(id); draw_messages(); });
  on("answered", ({ id, modal }) => {
    settle(id);
    if (modal) form(modal, { names, submit: async (values, files) => (await send("modal", { interaction: id, values }, files)).error });
  });
  on("failed", ({ id }) => {
    settle(id);
    state.notes.push({ id: `failed-${id}`, channel: here().id, failed: true });
    draw_notes();
  });
  live.onerror = () => {
    // A person of an earlier demo: begin again as whoever comes first.
    if (live.readyState === EventSource.CLOSED && as) { sessionStorage.removeItem("as"); connect(""); }
    status("away", "Connection lost");
  };
}

function become(id) {
  sessionStorage.setItem("as", id);
  document.body.classList.remove("show-people", "show-places");
  state.notes = [];
  state.unread.clear();
  const direct = !here().name;
  state.channel = direct ? null : state.channel;
  connect(id);
}

function show(channel) {
  state.channel = channel;
  state.unread.delete(channel);
  document.body.classList.remove("show-places");
  draw_frame();
  start_composer();
  draw_messages();
}

/** Go to a message that a link names. */
function open(channel, message) {
  if (!state.messages.has(message)) return toast("This message is gone, or only somebody else sees it");
  if (channel !== here().id) show(channel);
  reveal(message);
}

// -- drawing --

function status(kind, text) {
  $("#status").className = kind;
  $("#status").replaceChildren(h("i"), h("span", {}, text));
}

function draw_frame() {
  const { about } = state;
  const me = person(about.me);
  $("#server-name").textContent = about.server.name;
  const go = (channel) => h("button", {
    class: state.unread.has(channel.id) ? "unread" : "", ariaCurrent: channel.id === here().id ? "page" : null,
    onclick: () => show(channel.id),
  }, h("span", { class: "hash" }, channel.name ? "#" : "@"), channel.name ?? about.bot.name, channel.nsfw && h("span", { class: "tag quiet" }, "18+"));
  $("#channels").replaceChildren(
    h("h3", {}, "Channels"), ...about.channels.filter((channel) => channel.name).map(go),
    h("h3", {}, "Direct messages"), ...about.channels.filter((channel) => !channel.name).map(go));
  $("#self").replaceChildren(avatar(me), h("span", {}, h("b", {}, me.name), h("small", {}, me.roles.join(", ") || "member")));
  $("#channel-name").textContent = names.place(here());
  $("#topic").textContent = here().topic ?? (here().name ? "" : "Direct messages with the bot");
  status(about.bot.online ? "on" : "away", about.bot.online ? "live" : "bot is starting");
  $("#open-people").replaceChildren(avatar(me, "small"));
  const actor = (id) => {
    const one = person(id);
    return h("button", { class: "actor", ariaPressed: String(id === about.me), onclick: () => become(id) }, avatar(one),
      h("span", {}, name(one), h("small", {}, one.roles.join(", ") || "member")),
      id === about.me && h("span", { class: "tag quiet" }, "you"));
  };
  $("#people").replaceChildren(
    h("h3", {}, "Act as"), ...about.actors.map(actor),
    h("h3", {}, `Language of ${me.name}`), languages(about), h("h3", {}, "Apps"),
    h("div", { class: "actor" }, avatar({ bot: true }), h("span", {}, h("b", {}, about.bot.name), h("small", {}, about.bot.online ? "online" : "offline"))));
}

/** What this member's own Discord is set to; the bot is told with everything they do. The page itself stays English. */
function languages({ locale, locales }) {
  const own_name = (tag) => new Intl.DisplayNames([tag], { type: "language" }).of(tag);
  return h("select", { class: "select", ariaLabel: "Language", onchange: (event) => send("language", { locale: event.target.value }) },
    locales.map((tag) => h("option", { value: tag, selected: tag === locale }, own_name(tag))));
}

function start_composer() {
  composer = new Composer({ root: $("#composer"), channel: here, names, person, send });
}

const in_channel = () => [...state.messages.values()].filter((message) => message.channel_id === here().id).sort((a, b) => (BigInt(a.id) < BigInt(b.id) ? -1 : 1));
const at_bottom = () => { const list = $("#messages"); return list.scrollHeight - list.scrollTop - list.clientHeight < 120; };

function element(message, before) {
  const entries = here().commands.filter((command) => command.type === 3);
  const close = before && before.author.id === message.author.id && Date.parse(message.timestamp) - Date.parse(before.timestamp) < 300_000;
  const grouped = Boolean(close && !message.command && !message.reply_to && !message.private && !before.private);
  return messageElement(message, { names, person, act, entries, grouped });
}

function follow(stay) {
  const list = $("#messages");
  if (!stay) return;
  list.scrollTop = list.scrollHeight;
  for (const image of list.querySelectorAll("img:not(.here)")) image.addEventListener("load", () => (list.scrollTop = list.scrollHeight), { once: true });
}

function draw_messages() {
  const list = in_channel();
  const empty = h("li", { class: "empty" }, h("b", {}, names.place(here())), "This is where it begins.");
  $("#messages").replaceChildren(...(list.length ? list.map((message, index) => element(message, list[index - 1])) : [empty]));
  draw_notes();
  // A person who opens the page for the first time reads from the beginning.
  follow(state.drawn || list.some((message) => message.command));
  state.drawn = true;
}

function draw_message(message) {
  const stay = at_bottom();
  const list = in_channel();
  const index = list.findIndex((one) => one.id === message.id);
  const fresh = element(message, list[index - 1]);
  const old = document.getElementById(`m${message.id}`);
  $("#messages .empty")?.remove();
  if (old) {
    const focused = old.contains(document.activeElement) && document.activeElement.dataset.custom;
    // A picture that is already there stays there, so that an edit does not make it blink.
    for (const image of fresh.querySelectorAll("img")) {
      const same = [...old.querySelectorAll("img.here")].find((one) => one.src === image.src);
      if (same) image.replaceWith(same);
    }
    old.replaceWith(fresh);
    if (focused) fresh.querySelector(`[data-custom="${CSS.escape(focused)}"]`)?.focus();
  } else {
    fresh.classList.add("new");
    const after = list[index + 1] && document.getElementById(`m${list[index + 1].id}`);
    $("#messages").insertBefore(fresh, after ?? $("#messages .note"));
  }
  const mine = [message.author.id, message.interaction_metadata?.user.id].includes(state.about.me);
  follow(stay || (mine && !old));
}

function draw_notes() {
  const stay = at_bottom();
  for (const old of document.querySelectorAll("#messages .note")) old.remove();
  const bot = person(state.about.bot.id);
  $("#messages").append(...state.notes.filter((note) => note.channel === here().id).map((note) => h("li", { class: "message note" }, [
    avatar(bot), h("div", { class: "body" }, h("div", { class: "byline" }, h("b", {}, bot.name), h("span", { class: "tag" }, "APP")),
      note.failed
        ? [h("p", { class: "fault" }, "The application did not respond"), h("p", { class: "private" }, "◉ Only you can see this · ", h("button", { class: "plain", onclick: () => drop_note(note.id) }, "Dismiss message"))]
        : h("p", { class: "thinking" }, h("i"), h("i"), h("i"), "Sending command…")),
  ])));
  if (state.notes.length) follow(stay);
}

$("#open-places").addEventListener("click", () => document.body.classList.toggle("show-places"));
$("#open-people").addEventListener("click", () => document.body.classList.toggle("show-people"));
$("#shade").addEventListener("click", () => document.body.classList.remove("show-places", "show-people"));
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, dialog, .menu");
  if (event.key === "/" && !typing && composer && !composer.command) { event.preventDefault(); composer.write("/"); composer.field.focus(); composer.suggest(); }
});
take_drops(() => composer);
connect();
