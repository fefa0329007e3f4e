// The line at the bottom: words to everybody, or a slash command with its options.

import { $, avatar, bytes, h, toast } from "./dom.js";

const [TEXT, INTEGER, BOOLEAN, USER, CHANNEL, ROLE, MENTIONABLE, NUMBER, FILE] = [3, 4, 5, 6, 7, 8, 9, 10, 11];

/** The commands of a channel, with each subcommand on a line of its own. */
function flat(commands) {
  const under = (command, path) => {
    const deeper = (command.options ?? []).filter((option) => option.type <= 2);
    return deeper.length ? deeper.flatMap((option) => under(option, `${path} ${option.name}`)) : [{ ...command, path }];
  };
  return commands.filter((command) => command.type === 1).flatMap((command) => under(command, command.name));
}

/** A list to pick from above the line. The keys are handled by whatever has the focus, through `key`. */
class Picker {
  constructor() {
    this.node = h("div", { class: "picker", id: "picker", role: "listbox", hidden: true });
    this.items = [];
  }

  show(title, items, pick) {
    Object.assign(this, { items, pick, at: 0 });
    this.node.replaceChildren(h("p", {}, title), ...items.map((item, index) => h("button", {
      role: "option", tabIndex: -1, onpointerdown: (event) => event.preventDefault(), onclick: () => this.choose(index),
      onpointermove: () => { if (this.at !== index) { this.at = index; this.mark(); } },
    }, item.icon, h("span", { class: "name" }, item.name), item.hint && h("span", { class: "hint" }, item.hint))));
    this.node.hidden = !items.length && !title;
    this.mark();
  }

  hide() { this.items = []; this.node.hidden = true; }
  choose(index) { const item = this.items[index]; if (item) this.pick(item); }

  mark() {
    [...this.node.querySelectorAll("button")].forEach((button, index) => {
      button.ariaSelected = String(index === this.at);
      if (index === this.at) button.scrollIntoView({ block: "nearest" });
    });
  }

  key(event) {
    if (this.node.hidden || !this.items.length) return false;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) { this.at = (this.at + step + this.items.length) % this.items.length; this.mark(); }
    else if (event.key === "Enter" || event.key === "Tab") this.choose(this.at);
    else return false;
    event.preventDefault();
    return true;
  }
}

export class Composer {
  constructor({ root, channel, names, person, send }) {
    Object.assign(this, { root, channel, names, person, send });
    this.picker = new Picker();
    this.files = [];
    this.write();
  }

  get commands() { return flat(this.channel().commands); }

  // -- words --

  write(text = "") {
    this.command = null;
    this.picker.hide();
    this.field = h("textarea", {
      rows: 1, value: text, ariaLabel: "Message", placeholder: `Message ${this.names.place(this.channel())}, or type /`,
      oninput: () => this.suggest(), onkeydown: (event) => this.typed(event), onblur: () => this.picker.hide(), onpaste: (event) => this.add(event.clipboardData.files),
    });
    const input = h("input", { type: "file", multiple: true, hidden: true, onchange: () => this.add(input.files) });
    this.tray = h("div", { class: "tray" });
    this.root.replaceChildren(this.picker.node, this.tray, h("div", { class: "line" },
      h("button", { class: "icon", ariaLabel: "Add files", onclick: () => input.click() }, "+"), input, this.field,
      h("button", { class: "icon slash", ariaLabel: "Commands", title: "Commands", onclick: () => { this.field.value = "/"; this.field.focus(); this.suggest(); } }, "/")));
    this.draw_tray();
    this.grow();
  }

  grow() { this.field.style.height = "auto"; this.field.style.height = `${Math.min(this.field.scrollHeight, 180)}px`; }

  add(files) { this.files.push(...files); this.draw_tray(); this.field.focus(); }

  draw_tray() {
    this.tray.replaceChildren(...this.files.map((file, index) => thumbnail(file, () => { this.files.splice(index, 1); this.draw_tray(); })));
  }

  suggest() {
    this.grow();
    const text = this.field.value;
    if (!text.startsWith("/")) return this.picker.hide();
    const wanted = text.slice(1).trim().toLowerCase();
    const found = this.commands.filter((command) => command.path.startsWith(wanted) || (wanted.length > 1 && command.path.includes(wanted)));
    const items = found.map((command) => ({ icon: avatar({ bot: true }, "tiny"), name: `/${command.path}`, hint: command.description, command }));
    this.picker.show(found.length ? "Commands" : "No such command", items, (item) => this.start(item.command));
  }

  async typed(event) {
    if (event.isComposing || this.picker.key(event)) return;
    if (event.key === "Escape") this.picker.hide();
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    const text = this.field.value.trim();
    if (!text && !this.files.length) return;
    if (text.startsWith("/")) return toast(`There is no command ${text} for ${this.person(this.names.me()).name} here`);
    const files = this.files.splice(0);
    this.write();
    this.field.focus();
    const answer = await this.send("message", { text }, { files });
    if (answer.error && this.is_empty) { this.write(text); this.add(files); }
  }

  // -- a command and its options --

  run(path) {
    const command = this.commands.find((one) => one.path === path);
    if (command) this.start(command);
  }

  start(command) {
    this.picker.hide();
    this.command = command;
    this.values = {};
    this.pills = h("div", { class: "pills" }, h("span", { class: "command" }, `/${command.path}`));
    this.more = h("button", { class: "more", onclick: () => this.offer_more(), onfocus: () => this.offer_more(), onblur: () => this.picker.hide(), onkeydown: (event) => this.keys(event) });
    this.pills.append(this.more);
    const run = h("button", { class: "run", ariaLabel: "Run the command", onclick: () => this.submit() }, "➤");
    this.root.replaceChildren(this.picker.node, h("div", { class: "line command-line" }, this.pills,
      h("button", { class: "icon", ariaLabel: "Cancel the command", onclick: () => this.back() }, "✕"), run));
    for (const option of command.options ?? []) if (option.required) this.pill(option);
    this.count_more();
    (this.pills.querySelector(".pill input, .pill textarea, .pill button") ?? run).focus();
  }

  back() { this.write(); this.field.focus(); }

  get is_empty() { return !this.command && !this.field.value && !this.files.length; }

  get left() { return (this.command.options ?? []).filter((option) => !(option.name in this.values)); }

  count_more() {
    this.more.textContent = `+${this.left.length} more`;
    this.more.hidden = !this.left.length;
  }

  offer_more() {
    const items = this.left.map((option) => ({ name: option.label, hint: option.description, option }));
    this.picker.show("Options", items, (item) => { this.picker.hide(); this.pill(item.option).focus(); });
  }

  /** A small field for one option; returns what takes the focus. */
  pill(option) {
    this.values[option.name] = null;
    const control = option.type === FILE ? this.file_control(option) : this.text_control(option);
    const pill = h("label", { class: "pill", data: { option: option.name } }, h("span", {}, option.label), control);
    control.addEventListener("focus", () => this.pills.querySelectorAll(".pill").forEach((one) => one.classList.toggle("here", one === pill)));
    control.addEventListener("keydown", (event) => {
      const is_empty = event.key === "Backspace" && !control.value && this.values[option.name] === null;
      if (is_empty && Object.values(this.values).every((value) => value === null)) {
        event.preventDefault();
        this.back();
      } else if (is_empty && !option.required) {
        event.preventDefault();
        delete this.values[option.name];
        const before = pill.previousElementSibling;
        pill.remove();
        this.count_more();
        (before.querySelector("input, textarea, button") ?? this.more).focus();
      } else this.keys(event);
    });
    this.pills.insertBefore(pill, this.more);
    this.count_more();
    return control;
  }

  keys(event) {
    if (event.isComposing || this.picker.key(event)) return;
    if (event.key === "Escape") this.picker.hide(); // what was typed stays
    else if (event.key === "Enter" && !event.target.matches(".pick")) {
      event.preventDefault();
      this.submit();
    }
  }

  text_control(option) {
    const long = option.type === TEXT && !option.autocomplete && !option.choices?.length;
    const input = h(long ? "textarea" : "input", { ariaLabel: option.label, autocomplete: "off", placeholder: option.description, ...(long ? { rows: 1 } : {}) });
    const fit = () => { input.style.height = "auto"; if (long) input.style.height = `${input.scrollHeight}px`; };
    const ask = () => this.choices(option, input);
    input.addEventListener("input", () => {
      fit();
      this.values[option.name] = input.value === "" ? null : parsed(option, input.value);
      ask();
    });
    input.addEventListener("focus", ask);
    input.addEventListener("blur", () => this.picker.hide());
    return input;
  }

  /** What can be picked for an option: fixed choices, people, roles, or what the bot proposes. */
  async choices(option, input) {
    const pick = (item) => {
      this.values[option.name] = item.value;
      input.value = item.name;
      this.picker.hide();
      const empty = [...this.pills.querySelectorAll(".pill input, .pill textarea")].find((one) => !one.value);
      (empty ?? this.more).focus();
      if (!empty) this.picker.hide();
      if (!empty && this.more.hidden) input.focus();
    };
    const typed = input.value.toLowerCase();
    const fixed = this.fixed(option);
    if (fixed) {
      const items = fixed.filter((item) => item.name.toLowerCase().includes(typed));
      const exact = items.find((item) => item.name.toLowerCase() === typed);
      if (exact) this.values[option.name] = exact.value;
      return this.picker.show(items.length ? option.description : "Nothing fits", items, pick);
    }
    this.picker.show(`${option.label}: ${option.description}`, [], pick);
    if (!option.autocomplete) return;
    const turn = (this.turn = Symbol(option.name));
    await new Promise((after) => setTimeout(after, 120));
    if (this.turn !== turn || !this.command) return;
    const options = Object.fromEntries(Object.entries({ ...this.values, [option.name]: input.value }).filter(([, value]) => value !== null));
    const answer = await this.send("autocomplete", { command: this.command.path, focused: option.name, options });
    if (this.turn !== turn || document.activeElement !== input) return;
    const items = (answer?.choices ?? []).map((choice) => ({ name: choice.name, value: choice.value }));
    this.picker.show(items.length ? option.description : "No proposals — type what you like", items, pick);
    this.picker.at = input.value && this.values[option.name] === input.value ? 0 : this.picker.at;
  }

  fixed(option) {
    if (option.choices?.length) return option.choices.map(({ label, value }) => ({ name: label, value }));
    if (option.type === BOOLEAN) return [{ name: "True", value: true }, { name: "False", value: false }];
    const kind = { [USER]: 5, [ROLE]: 6, [MENTIONABLE]: 7, [CHANNEL]: 8 }[option.type];
    return kind && this.names.choices(kind).map(({ label, value, person }) => ({ name: label, value, icon: person && avatar(person, "tiny") }));
  }

  file_control(option) {
    const input = h("input", { type: "file", hidden: true });
    const button = h("button", { type: "button", class: "pick", onclick: () => input.click() }, "Choose or drop a file");
    const take = (file) => {
      if (!file) return;
      this.values[option.name] = file;
      button.replaceChildren(thumbnail(file));
    };
    input.addEventListener("change", () => take(input.files[0]));
    for (const kind of ["dragover", "drop"]) button.addEventListener(kind, (event) => { event.preventDefault(); event.stopPropagation(); if (kind === "drop") take(event.dataTransfer.files[0]); });
    button.append(input);
    input.addEventListener("click", (event) => event.stopPropagation());
    this.root.append(input);
    return button;
  }

  async submit() {
    const options = {};
    const files = {};
    for (const option of this.command.options ?? []) {
      const value = this.values[option.name];
      if (value instanceof File) files[option.name] = [value];
      else if (value !== null && value !== undefined) options[option.name] = value;
      else if (option.required) {
        const pill = this.pills.querySelector(`[data-option="${option.name}"]`);
        pill.classList.add("missing");
        pill.querySelector("input, textarea, button").focus();
        return toast(`${option.label} is required`);
      }
    }
    const kept = { command: this.command, values: this.values, pills: this.pills, more: this.more, nodes: [...this.root.childNodes] };
    this.back();
    const answer = await this.send("command", { command: kept.command.path, options }, files);
    if (answer.error && this.is_empty) this.restore(kept);
  }

  /** Show a command again that was not taken, as it was typed. */
  restore({ nodes, ...kept }) {
    Object.assign(this, kept);
    this.root.replaceChildren(...nodes);
    this.pills.querySelector(".pill.here :is(input, textarea, button)")?.focus();
    this.picker.hide();
  }
}

/** What is no number goes as it is, so that the answer says what is wrong with it. */
function parsed(option, text) {
  const is_number = (option.type === INTEGER || option.type === NUMBER) && Number.isFinite(Number(text)) && text.trim();
  return is_number ? Number(text) : text;
}

function thumbnail(file, remove) {
  const picture = file.type.startsWith("image/");
  return h("span", { class: "thumb" }, picture && h("img", { src: URL.createObjectURL(file), alt: "" }),
    h("span", {}, file.name, h("small", {}, bytes(file.size))), remove && h("button", { class: "icon", ariaLabel: `Remove ${file.name}`, onclick: remove }, "✕"));
}

/** Files dropped anywhere on the page go into the message being written. */
export function take_drops(composer) {
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    if (!composer().command) composer().add(event.dataTransfer.files);
    else $(".pick")?.dispatchEvent(new DragEvent("drop", { dataTransfer: event.dataTransfer }));
  });
}
