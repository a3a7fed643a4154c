// The checkout form on the page: what is typed, how it is shown, and where it is wrong.
// Why here: the course of an order need not know a single element.
// Must not: send anything, or write markup (only text and attributes).

import { brandOf, digitsOf, grouped, plainDigits } from "./judging.js";

const element = (id) => document.getElementById(id);
const FIELDS = ["name", "email", "country", "line1", "line2", "district", "city", "region", "postcode"];
const CARD = ["number", "expiry", "code"];
const title = document.title;

const regionInput = () => (element("region").hidden ? element("region-text") : element("region"));
const input = (id) => (id === "region" ? regionInput() : element(id));

export const typed = () => ({
  ...Object.fromEntries(FIELDS.map((id) => [id, input(id).value])),
  ...Object.fromEntries(CARD.map((id) => [id, plainDigits(element(id).value)])),
});

export function wipeCard() {
  for (const id of CARD) element(id).value = "";
  showBrand("", null);
}

/** Groups the card number as it is typed, and names its brand. */
export function followCard(rules) {
  const number = element("number");
  let shown = number.value;
  const follow = (event) => {
    if (event?.isComposing) return; // an input method is still at work on it
    const { text, caret } = grouped(plainDigits(number.value), number.selectionStart ?? number.value.length, rules);
    if (text !== number.value) {
      // What the Delete key took was a space of ours: step over it, or the key would never come further.
      const place = text === shown && event?.inputType === "deleteContentForward" ? caret + 1 : caret;
      number.value = text;
      if (document.activeElement === number) number.setSelectionRange(place, place);
    }
    shown = text;
    const digits = digitsOf(number.value) ?? "";
    showBrand(digits, brandOf(digits, rules));
  };
  number.addEventListener("input", follow);
  number.addEventListener("change", follow);
  number.addEventListener("compositionend", follow);
  follow();
}

function showBrand(digits, brand) {
  element("brand").textContent = digits && brand && brand.beginnings.length ? brand.name : "";
  const isFront = Boolean(digits) && brand?.codes.join() === "4";
  element("code-hint").textContent = isFront
    ? "The four digits on the front of the card, above the number"
    : "The last three digits on the back of the card";
}

/** Shows a country's address fields, in its order and under its names. */
export function showCountry(country) {
  const shown = new Map(country.fields.map((field) => [field.id, field]));
  for (const id of ["line1", "line2", "district", "city", "region", "postcode"]) {
    const box = element(`${id}-field`);
    box.hidden = !shown.has(id);
    if (shown.has(id)) {
      const { label, required } = shown.get(id);
      box.querySelector("label").textContent = required ? label : `${label} (optional)`;
    }
  }
  for (const field of country.fields) element("address").append(element(`${field.id}-field`));
  showRegions(country.regions ?? []);
}

function showRegions(regions) {
  const select = element("region");
  const text = element("region-text");
  const before = regionInput().value;
  select.hidden = regions.length === 0;
  text.hidden = regions.length > 0;
  document.querySelector("#region-field label").htmlFor = regions.length ? "region" : "region-text";
  const option = (value, label) => Object.assign(document.createElement("option"), { value, textContent: label });
  select.replaceChildren(option("", ""), ...regions.map(([value, label]) => option(value, label)));
  select.value = regions.some(([value]) => value === before) ? before : "";
  if (!regions.length) text.value = before;
}

/** Every fault, in the summary and at its field in the same words; the summary gets the focus. */
export function showFaults(faults) {
  for (const id of [...FIELDS, ...CARD]) {
    const fault = faults.find((one) => one.id === id);
    const place = element(`${id}-fault`);
    place.textContent = fault?.text ?? "";
    place.hidden = !fault;
    element(`${id}-field`).classList.toggle("faulty", Boolean(fault));
    const hint = element(`${id}-hint`) ? `${id}-hint` : "";
    for (const field of id === "region" ? [element("region"), element("region-text")] : [element(id)]) {
      field.toggleAttribute("aria-invalid", false);
      if (fault) field.setAttribute("aria-invalid", "true");
      const described = [hint, fault ? `${id}-fault` : ""].filter(Boolean).join(" ");
      if (described) field.setAttribute("aria-describedby", described);
      else field.removeAttribute("aria-describedby");
    }
  }
  const summary = element("summary");
  summary.hidden = faults.length === 0;
  summary.querySelector("ul").replaceChildren(...faults.map(line));
  document.title = faults.length ? `Error: ${title}` : title;
  if (faults.length) summary.focus();
}

function line({ id, text }) {
  const link = Object.assign(document.createElement("a"), { href: `#${id}`, textContent: text });
  link.addEventListener("click", (event) => {
    event.preventDefault();
    element(`${id}-field`).scrollIntoView();
    input(id).focus({ preventScroll: true });
  });
  const item = document.createElement("li");
  item.append(link);
  return item;
}

/** A message above the form, with the focus; none for null. `link`: {href, text}. */
export function showMessage(message) {
  const box = element("message");
  box.hidden = message === null;
  if (message === null) return;
  box.querySelector("h2").textContent = message.heading;
  const text = box.querySelector("p");
  text.textContent = message.text;
  if (message.link) {
    const { href, text: words } = message.link;
    text.append(" ", Object.assign(document.createElement("a"), { href, textContent: words }));
  }
  document.title = message.heading;
  box.focus();
}

/** Says on the button that the order is under way; a second press does nothing. */
export function showBusy(isBusy) {
  const button = element("pay");
  button.dataset.words ??= button.textContent;
  button.textContent = isBusy ? "Encrypting and sending …" : button.dataset.words;
  button.setAttribute("aria-disabled", String(isBusy));
  element("order").setAttribute("aria-busy", String(isBusy));
  element("progress").textContent = isBusy ? "Please wait, this takes a moment." : "";
}

export function open() {
  for (const id of ["delivery", "card", "pay"]) element(id).disabled = false;
  element("not-running").hidden = true;
  element("order").hidden = false;
}
