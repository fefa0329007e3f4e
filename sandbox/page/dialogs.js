// What opens over the page: a form the bot asked for, and a picture seen large.

import { bytes, h } from "./dom.js";

function dialog(kind, ...children) {
  const node = h("dialog", { class: kind, onclose: () => node.remove() }, children);
  document.body.append(node);
  node.showModal();
  node.addEventListener("click", (event) => event.target === node && node.close());
  return node;
}

export function lightbox(pictures, index) {
  const image = h("img", {});
  const caption = h("p", {});
  const open = h("a", { target: "_blank", rel: "noreferrer" }, "Open original");
  const show = (to) => {
    index = (to + pictures.length) % pictures.length;
    const { url, alt } = pictures[index];
    Object.assign(image, { src: url, alt });
    caption.textContent = alt;
    open.href = url;
  };
  const step = (by, label, mark) => pictures.length > 1 && h("button", { class: "icon step", ariaLabel: label, onclick: () => show(index + by) }, mark);
  const node = dialog("lightbox", h("figure", {}, step(-1, "Previous", "‹"), image, step(1, "Next", "›")),
    h("footer", {}, caption, open, h("button", { class: "icon", ariaLabel: "Close", onclick: () => node.close() }, "✕")));
  node.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") show(index + 1);
    if (event.key === "ArrowLeft") show(index - 1);
  });
  show(index);
}

/** Ask before something is bought; `buy` returns what went wrong, if anything did. */
export function purchase({ name, price }, buy) {
  const fault = h("p", { class: "fault", role: "alert" });
  const node = dialog("form", h("form", {
    method: "dialog",
    onsubmit: async (event) => {
      event.preventDefault();
      const error = await buy();
      if (error) fault.textContent = error;
      else node.close();
    },
  }, h("h3", {}, name), h("p", {}, `You pay ${price}. In this demo no money changes hands.`), fault, h("footer", {},
    h("button", { type: "button", class: "button secondary", onclick: () => node.close() }, "Cancel"),
    h("button", { class: "button primary" }, `Buy for ${price}`))));
}

export function form(modal, { names, submit }) {
  const readers = [];
  const files = {};
  const body = modal.components.map((part) => {
    if (part.type === 10) return h("p", { class: "small" }, part.content);
    const field = part.type === 18 ? part.component : part.components[0];
    const [control, read] = control_for(field, names, files);
    readers.push([field.custom_id, read]);
    const needed = field.required !== false && field.type !== 23;
    return h(control.matches(".choices") ? "div" : "label", { class: "field" }, [
      h("span", { class: "label" }, part.label ?? field.label, needed && h("i", { title: "required" }, " *")),
      part.description && h("small", {}, part.description),
      control,
    ]);
  });
  const fault = h("p", { class: "fault", role: "alert" });
  const node = dialog("form", h("form", {
    method: "dialog",
    onsubmit: async (event) => {
      event.preventDefault();
      const values = Object.fromEntries(readers.map(([id, read]) => [id, read()]).filter(([, value]) => value !== undefined));
      const error = await submit(values, files);
      if (error) fault.textContent = error;
      else node.close();
    },
  }, h("h3", {}, modal.title), body, fault, h("footer", {},
    h("button", { type: "button", class: "button secondary", onclick: () => node.close() }, "Cancel"),
    h("button", { class: "button primary" }, "Submit"))));
  node.querySelector("textarea, input, select")?.focus();
}

function control_for(field, names, files) {
  const facts = { name: field.custom_id, required: field.required !== false, placeholder: field.placeholder ?? "" };
  if (field.type === 4) {
    const limits = { maxLength: field.max_length ?? 4000, minLength: field.min_length ?? 0, value: field.value ?? "" };
    const input = h(field.style === 2 ? "textarea" : "input", { ...facts, ...limits, ...(field.style === 2 ? { rows: 4 } : {}) });
    input.addEventListener("keydown", (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && input.form.requestSubmit());
    return [input, () => input.value];
  }
  if (field.type === 19) {
    const chosen = h("span", { class: "chosen" }, "Choose or drop a file");
    const input = h("input", { type: "file", multiple: (field.max_values ?? 1) > 1, required: facts.required && (field.min_values ?? 1) > 0, onchange: () => {
      files[field.custom_id] = [...input.files];
      chosen.textContent = [...input.files].map((file) => `${file.name} (${bytes(file.size)})`).join(", ") || "Choose or drop a file";
    } });
    return [h("span", { class: "drop" }, chosen, input), () => undefined];
  }
  if (field.type === 23) {
    const box = h("input", { type: "checkbox", checked: field.default });
    return [box, () => box.checked];
  }
  const options = field.options ?? names.choices(field.type);
  const several = (field.max_values ?? 1) > 1;
  if (field.type === 21 || field.type === 22 || several) {
    const type = field.type === 21 ? "radio" : "checkbox";
    const boxes = options.map((o) => h("input", { type, name: field.custom_id, value: o.value, checked: o.default, required: type === "radio" && facts.required }));
    const list = h("span", { class: "choices" }, options.map((o, i) => h("label", {}, boxes[i], o.label, o.description && h("small", {}, o.description))));
    const picked = () => boxes.filter((box) => box.checked).map((box) => box.value);
    return [list, () => (type === "radio" ? picked()[0] ?? null : picked())];
  }
  const select = h("select", { class: "select", required: facts.required }, [
    h("option", { value: "" }, field.placeholder ?? "Make a choice"),
    options.map((o) => h("option", { value: o.value, selected: o.default }, o.description ? `${o.label} — ${o.description}` : o.label)),
  ]);
  return [select, () => [...select.selectedOptions].map((o) => o.value).filter(Boolean)];
}
