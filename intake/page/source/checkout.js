// The checkout page: judges, seals, sends, and shows how it went.
// Why here: the one place that ties form, keys, envelope and answers together.
// Must not: send a card or an address in clear, or keep one after the order was taken.

import { newKey } from "./bytes.js";
import { sealOrder } from "./envelope.js";
import * as form from "./form.js";
import { contentsOf, judge } from "./judging.js";
import { checkedKeys } from "./keys.js";
import * as memory from "./memory.js";
import * as net from "./net.js";
import { find, place } from "./sending.js";

const MESSAGES = {
  unreached: {
    heading: "We could not reach the shop",
    text: "Nothing was sent and nothing was taken. What you typed is still here. Check your connection and press the button again.",
  },
  unanswered: {
    heading: "We did not get an answer",
    text: "Your order may or may not have reached us. Press the button again: that is safe, the order is taken once at most, and you will not be charged twice.",
  },
  limited: {
    heading: "Too many orders from your connection",
    text: "When you then press the button again, the order is taken once at most, and you will not be charged twice. What you typed is still here.",
  },
  untrusted: {
    heading: "This page cannot encrypt safely",
    text: "The shop's keys are not signed as this page was told they would be, so nothing was sent and nothing was taken. Load the page again; if it says the same, please tell the shop.",
    link: { href: "/checkout", text: "Load the page again" },
  },
  differs: {
    heading: "This order was sent before with another basket",
    text: "That order stands as it was then, and nothing else was taken.",
    link: { href: "/basket", text: "See your basket" },
  },
  refused: {
    heading: "The shop did not accept the order",
    text: "Nothing was taken. Prices may have changed: load the page again and look at your basket.",
    link: { href: "/basket", text: "See your basket" },
  },
  moved: {
    heading: "Your basket has changed",
    text: "It was changed or ordered in another tab since this page was loaded. Nothing was sent.",
    link: { href: "/basket", text: "See your basket" },
  },
};

const page = document.getElementById("order");
if (page) start();

function start() {
  const order = JSON.parse(page.dataset.order);
  const rules = JSON.parse(page.dataset.rules);
  const { items, total, node, identities } = order;
  const basket = { items, total };
  // An order of this tab whose answer never came, until it is known what became of it.
  let known = memory.underWay();
  const isSame = known !== null && JSON.stringify(known.order) === JSON.stringify(basket);
  const key = isSame ? known.key : newKey();
  const countries = new Map();
  let unanswered = null;
  let sentAs = "";
  let learning = null;
  let thanks = null;
  let isBusy = false;

  const requestText = (contents, sealed) =>
    JSON.stringify({ items: contents.items.map(({ sku, quantity }) => ({ sku, quantity })), total: contents.total, sealed });

  async function countryRules(code) {
    if (!countries.has(code)) {
      const answer = await net.getCountry(code);
      if (answer?.status !== 200) return null;
      countries.set(code, answer.document);
    }
    return countries.get(code);
  }

  async function followCountry() {
    const { country } = form.typed();
    const found = country ? await countryRules(country) : null;
    if (found && form.typed().country === country) form.showCountry(found);
  }

  /** `isOther`: whether what is typed now is not what was sent; null: only if the button was pressed meanwhile. */
  async function finish({ id, token }, sentKey, sent, isOther = null) {
    form.wipeCard();
    memory.rememberOrder(id, sent);
    memory.forgetUnderWay(sentKey);
    if (sent === basket) await Promise.race([net.changeBasket({ do: "empty" }), net.wait(3000)]);
    // Not kept in the history: going back must not lead to a form of an order that was made.
    thanks = `/thanks#${id}.${token}${(isOther ?? isBusy) ? ".first" : ""}`;
    window.location.replace(thanks);
  }

  // One tab after another: the second then sees that the basket was ordered. And one question after another in a tab:
  // the order before is settled before the next is sent.
  const alone = (act) => (navigator.locks ? navigator.locks.request("checkout", act) : act());

  async function attempt() {
    const found = await learning;
    learning = null;
    if (thanks) window.location.replace(thanks); // again, for who has stopped the browser on its way there
    if (found || thanks) return found;
    form.showMessage(null);
    const filled = form.typed();
    const country = filled.country ? await countryRules(filled.country) : null;
    const faults = judge(filled, country, rules);
    form.showFaults(faults);
    if (faults.length) return null;
    const current = await net.getBasket();
    if (current?.status !== 200 || !country) return MESSAGES.unreached;
    const now = { items: current.document.items, total: current.document.total };
    if (JSON.stringify(now) !== JSON.stringify(basket)) return MESSAGES.moved;
    if (known && !isSame) {
      // Its key is remembered no longer once this order is sent: ask again while it is.
      const message = await learn();
      if (message || thanks) return message;
    }
    const { card, ...contents } = contentsOf(filled, country);
    const asTyped = JSON.stringify(filled);
    const outcome = await place({
      unanswered,
      probe: sentAs === asTyped ? null : requestText(basket, {}),
      net: { keys: net.getKeys, wait: net.wait, post: (text) => net.postOrder(key, text) },
      seal: (document, time) => {
        const keys = checkedKeys(document, { node, identities, now: time });
        memory.rememberUnderWay(key, basket);
        return requestText(basket, sealOrder(key, { ...basket, ...contents }, card, keys, time));
      },
    });
    if (outcome.kind === "taken") {
      await finish(outcome, key, basket, outcome.earlier && sentAs !== asTyped);
      return null;
    }
    if ((outcome.text ?? null) !== unanswered) [unanswered, sentAs] = [outcome.text ?? null, asTyped];
    if (outcome.kind === "closed") return { heading: outcome.title, text: `${outcome.detail} What you typed is still here.` };
    if (outcome.kind === "size") {
      form.showFaults([{ id: "line1", text: `Address line 1 ${rules.faults.size}` }]);
      return null;
    }
    return messageOf(outcome);
  }

  function messageOf({ kind, patience }) {
    const message = MESSAGES[kind];
    if (kind !== "limited") return message;
    const minutes = Math.ceil(patience / 60);
    return { ...message, text: `Please wait ${minutes > 1 ? `${minutes} minutes` : "a minute"}. ${message.text}` };
  }

  /**
   * An order of this tab was sent, and its answer never came: ask whether it stands, without sending it again.
   * Gives the message that its customer must see before ordering again, or null.
   */
  async function learn() {
    const { key: sentKey, order: sent } = known;
    const asked = requestText(sent, {});
    const answer = await find({ post: (text) => net.postOrder(sentKey, text) }, asked);
    if (["unanswered", "limited"].includes(answer.kind)) {
      // Nobody says. For the same basket the next attempt asks before it seals: its key is the same.
      if (isSame) unanswered = asked;
      return messageOf(answer);
    }
    known = null;
    if (answer.kind === "taken") {
      await finish(answer, sentKey, isSame ? basket : sent);
      return null;
    }
    if (!isSame) memory.forgetUnderWay(sentKey);
    // Its prices have changed since, or its basket: it is not to be ordered again unnoticed.
    return answer.kind === "differs" ? MESSAGES.differs : null;
  }

  /** As the page opens. Who presses the button meanwhile gets the message in place of an order. */
  async function learnFirst() {
    const message = await learn();
    if (known || !message) return null; // nobody says yet, and nobody has asked for anything yet
    if (isBusy) return message;
    form.showMessage(message);
    return null;
  }

  page.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (isBusy) return;
    isBusy = true;
    form.showBusy(true);
    let message = MESSAGES.refused;
    try {
      message = await alone(attempt);
    } finally {
      isBusy = false;
      form.showBusy(false);
      if (message) form.showMessage(message);
    }
  });
  document.getElementById("country").addEventListener("change", followCountry);
  window.addEventListener("pageshow", (event) => {
    // Out of the browser's memory: the basket may have been ordered since.
    if (event.persisted) window.location.reload();
  });
  form.followCard(rules);
  form.open();
  void followCountry();
  if (known) learning = alone(learnFirst);
}
