// An order's header and its two compartments (transfer/FORMAT.md, sections 2 and 4 to 7).
// Why here: what leaves the browser is made here and nowhere else.
// Must not: keep anything; what it is given and what it returns is all there is.

import { base64, concat, digest, hex, keyId, seal, unsigned, utf8 } from "./bytes.js";

const STEP = 512;
const LARGEST = 32 * STEP;

/** Order id and basket nonce of an Idempotency-Key. */
export function namesOf(key) {
  return { id: digest("order-id", utf8(key), 16), nonce: digest("basket-nonce", utf8(key)) };
}

export function basketDigest(nonce, items, total) {
  const parts = items.map(({ sku, quantity, price }) =>
    concat(unsigned(sku.length, 1), utf8(sku), unsigned(quantity, 4), unsigned(price, 8)),
  );
  return digest(
    "basket",
    concat(nonce, unsigned(items.length, 2), ...parts, unsigned(total.amount, 8), utf8(total.currency)),
  );
}

/** `order`: items with prices, total, customer, delivery. `keys`: the two public keys. `time`: seconds, for information. */
export function sealOrder(key, order, card, keys, time) {
  const { id, nonce } = namesOf(key);
  const header = concat(
    Uint8Array.of(1, 1, 1, 0),
    id,
    keyId(keys.order),
    keyId(keys.batch),
    unsigned(time, 8),
    basketDigest(nonce, order.items, order.total),
  );
  const headerDigest = digest("header", header);
  const orderBox = seal(orderCompartment(headerDigest, nonce, order), keys.order);
  const plain = cardCompartment(headerDigest, digest("order-box", orderBox), order.total, card);
  const cardBox = seal(plain, keys.batch);
  plain.fill(0);
  return { header: base64(header), order: base64(orderBox), card: base64(cardBox) };
}

function orderCompartment(headerDigest, nonce, { items, total, customer, delivery }) {
  const json = utf8(
    JSON.stringify({ header: hex(headerDigest), nonce: hex(nonce), items, total, customer, delivery }),
  );
  const size = Math.ceil((4 + json.length) / STEP) * STEP;
  if (size > LARGEST) throw Object.assign(new Error("ORDER-SIZE"), { rule: "ORDER-SIZE" });
  return concat(unsigned(json.length, 4), json, new Uint8Array(size - 4 - json.length));
}

function cardCompartment(headerDigest, orderBoxDigest, total, { number, month, year, code }) {
  const padded = (digits, room) => concat(utf8(digits), new Uint8Array(room - digits.length));
  return concat(
    headerDigest,
    orderBoxDigest,
    unsigned(total.amount, 8),
    utf8(total.currency),
    unsigned(number.length, 1),
    padded(number, 19),
    unsigned(month, 1),
    unsigned(year, 2),
    unsigned(code.length, 1),
    padded(code, 4),
    new Uint8Array(25),
  );
}
