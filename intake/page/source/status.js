// The status and thank-you pages: fetch how far an order is, with the token in the address's fragment, and show it.
// Why here: a browser never sends the fragment, so no log and no referrer can hold a token.
// Must not: hold a text about a state; the page brings them all.

import { basketOf } from "./memory.js";
import * as net from "./net.js";

const EVERY = 60_000;
const box = document.getElementById("status");
const all = (selector) => [...document.querySelectorAll(selector)];

const fragment = decodeURIComponent(window.location.hash.slice(1));
const parts = fragment.split(".");
const [id, token] = box.dataset.order ? [box.dataset.order, parts[0]] : [parts[0] ?? "", parts[1] ?? ""];

function tell(heading, text) {
  const message = document.getElementById("message");
  message.querySelector("h2").textContent = heading;
  message.querySelector("p").textContent = text;
  message.hidden = false;
  document.getElementById("looking").hidden = true;
}

function show({ status, reason, changed_at: changedAt }) {
  document.getElementById("looking").hidden = true;
  document.getElementById("message").hidden = true;
  let step = 0;
  for (const section of all("section[data-state]")) {
    const isIt = section.dataset.state === status;
    if (section.hidden === isIt) section.hidden = !isIt;
    if (isIt) step = Number(section.dataset.step);
  }
  for (const text of all("[data-reason]")) text.hidden = text.dataset.reason !== reason;
  document.getElementById("steps").hidden = step === 0;
  for (const item of all("#steps li")) {
    const place = Number(item.dataset.step);
    item.classList.toggle("done", place < step);
    item.classList.toggle("now", place === step);
    item.querySelector(".unseen").textContent = place < step ? " (done)" : place === step ? " (now)" : "";
  }
  const heading = document.querySelector("h1");
  if (!["received", "in-transit"].includes(status)) heading.textContent = heading.dataset.later;
  const isOver = ["declined", "order-again"].includes(status);
  document.getElementById("again").hidden = !isOver;
  document.getElementById("order-again").hidden = basketOf(id) === null;
  document.getElementById("forgotten").hidden = basketOf(id) !== null;
  const time = document.querySelector("#changed time");
  time.dateTime = new Date(changedAt * 1000).toISOString();
  time.textContent = new Date(changedAt * 1000).toLocaleString([], { dateStyle: "long", timeStyle: "short" });
  document.getElementById("changed").hidden = false;
}

async function look() {
  const answer = await net.getStatus(id, token);
  if (answer?.status === 200) show(answer.document);
  else if (answer?.status === 404)
    tell("We cannot show this order", "The address is not complete, or it is not of this shop. Use the whole address that you were given.");
  else tell("We could not reach the shop", "This page tries again by itself. Your order is not affected.");
}

document.getElementById("order-again").addEventListener("click", async () => {
  await net.changeBasket({ do: "replace", basket: basketOf(id) ?? "" });
  window.location.assign("/checkout");
});

if (/^[0-9a-f]{32}$/.test(id) && token) {
  document.getElementById("number").textContent = id.match(/.{4}/g).join(" ");
  document.getElementById("own").href = `/orders/${id}#${token}`;
  document.getElementById("keep").hidden = false;
  document.getElementById("first").hidden = parts[2] !== "first";
  void look();
  setInterval(() => document.visibilityState === "visible" && void look(), EVERY);
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && void look());
} else {
  tell("We cannot show this order", "The address is not complete. Use the whole address that you were given.");
}
