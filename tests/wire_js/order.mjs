// Envelope, basket digest and both compartments, from sections 2 and 4 to 7 of transfer/FORMAT.md.
// Why here: what seal.mjs writes, open.mjs and verify.mjs read.
// Must not: know bundles, returns or signatures.

import { hexOf, integer, listOf, object, oneOf, string } from "./canonical.mjs";
import {
  Refused,
  concat,
  digest,
  fromHex,
  hex,
  keyId,
  number,
  same,
  u16,
  u32,
  u64,
  u8,
  utf8,
} from "./primitives.mjs";

const STEP = 512;
const LARGEST = 32 * STEP;
export const HEADER_SIZE = 92;
export const CARD_BOX_SIZE = 128 + 48;
export const LARGEST_ENVELOPE = 20_000;
export const LARGEST_FRAME = 65_536;

/** 1 to `high` characters, counted as Unicode code points (the page says "characters"); no control character. */
const characters = (low, high) => (value, where) => {
  const size = typeof value === "string" ? [...value].length : -1;
  if (size < low || size > high)
    throw new Refused(null, `${where} is not a text of ${low} to ${high} characters`);
  if (/\p{Cc}/u.test(value)) throw new Refused("ORDER-TEXT", `${where} holds a control character`);
  if (/\p{Cs}/u.test(value)) throw new Refused(null, `${where} is not Unicode text`);
};

const ITEMS = listOf(
  object({ sku: string(/^[A-Za-z0-9._-]{1,64}$/), quantity: integer(1, 999), price: integer(0, 1e12) }),
  1,
  100,
);
const TOTAL = object({ amount: integer(1, 1e12), currency: string(/^[A-Z]{3}$/) });
const ORDER = {
  items: ITEMS,
  total: TOTAL,
  customer: object({ name: characters(1, 200), email: characters(3, 254) }),
  delivery: object({
    lines: listOf(characters(1, 200), 1, 4),
    city: characters(1, 100),
    region: characters(0, 100),
    postcode: characters(0, 20),
    country: string(/^[A-Z]{2}$/),
  }),
};

export function checkOrder(order) {
  object(ORDER)(order, "order");
  const sum = order.items.reduce((total, item) => total + BigInt(item.quantity) * BigInt(item.price), 0n);
  if (sum !== BigInt(order.total.amount))
    throw new Refused("ORDER-TOTAL", "the total is not the sum of its items");
}

export function namesOf(idempotencyKey) {
  if (!/^[A-Za-z0-9_-]{22,128}$/.test(idempotencyKey))
    throw new Refused("ORDER-IDEMPOTENCY-KEY", "not an Idempotency-Key");
  const key = utf8(idempotencyKey);
  return { orderId: digest("order-id", key, 16), nonce: digest("basket-nonce", key) };
}

export function basketDigest(nonce, items, total) {
  const parts = items.map(({ sku, quantity, price }) =>
    concat(u8(sku.length), utf8(sku), u32(quantity), u64(price)),
  );
  return digest(
    "basket",
    concat(nonce, u16(items.length), ...parts, u64(total.amount), utf8(total.currency)),
  );
}

export function encodeHeader({ orderId, orderKey, batchKey, time, basket }) {
  const start = Uint8Array.of(1, 1, 1, 0);
  return concat(start, orderId, keyId(orderKey), keyId(batchKey), u64(time), basket);
}

function exact(bytes) {
  const value = BigInt("0x" + hex(bytes));
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? String(value) : Number(value);
}

export function decodeHeader(raw) {
  const [version, kind, suite, zero] = raw;
  return {
    version,
    kind,
    suite,
    zero,
    order_id: hex(raw.subarray(4, 20)),
    order_key: hex(raw.subarray(20, 36)),
    batch_key: hex(raw.subarray(36, 52)),
    // For information only, so any u64; above 2^53 - 1 it stays text, which is exact.
    time: exact(raw.subarray(52, 60)),
    basket: hex(raw.subarray(60, 92)),
  };
}

export function encodeOrder(header, nonce, order) {
  checkOrder(order);
  const json = utf8(JSON.stringify({ header: hex(digest("header", header)), nonce: hex(nonce), ...order }));
  const size = Math.ceil((4 + json.length) / STEP) * STEP;
  if (size > LARGEST) throw new Refused("ORDER-SIZE", "the order does not fit its compartment");
  return concat(u32(json.length), json, new Uint8Array(size - 4 - json.length));
}

/** The JSON text of a padded compartment. */
export function unpad(raw) {
  if (raw.length === 0 || raw.length % STEP !== 0 || raw.length > LARGEST)
    throw new Refused("ORDER-PADDING", "not in steps of 512");
  const size = number(raw.subarray(0, 4));
  if (size + 4 > raw.length || raw.length - size - 4 >= STEP)
    throw new Refused("ORDER-PADDING", "not the shortest padding");
  if (raw.subarray(4 + size).some((byte) => byte !== 0))
    throw new Refused("ORDER-PADDING", "padding that is not zero");
  return raw.subarray(4, 4 + size);
}

/** Each compartment's JSON has members of its own, and one form of each; the order of members is free. */
function parse(padded, shape) {
  try {
    const value = JSON.parse(
      new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(unpad(padded)),
    );
    shape(value, "it");
    return value;
  } catch (error) {
    throw new Refused(error.rule ?? "ORDER-FORM", error.message);
  }
}

const BOUND = { header: hexOf(32), nonce: hexOf(32) };
const REQUEST = object({
  header: hexOf(32),
  request: oneOf("export", "erase", "restrict"),
  email: characters(3, 254),
  orders: listOf(hexOf(16), 0, 100),
});

export const readOrder = (padded) => parse(padded, object({ ...BOUND, ...ORDER }));
export const readRequest = (padded) => parse(padded, REQUEST);

export function decodeOrder(padded, header) {
  const order = readOrder(padded);
  const { header: bound, nonce, ...rest } = order;
  if (bound !== hex(digest("header", header)))
    throw new Refused("ORDER-HEADER", "the compartment belongs to another header");
  if (hex(basketDigest(fromHex(nonce, 32), rest.items, rest.total)) !== decodeHeader(header).basket)
    throw new Refused("ORDER-BASKET-DIGEST", "the basket is not the header's");
  checkOrder(rest);
  return order;
}

const zeros = (size) => new Uint8Array(size);
const asciiDigits = (text, low, high) => {
  if (typeof text !== "string" || !/^[0-9]+$/.test(text) || text.length < low || text.length > high)
    throw new Refused(null, `not ${low} to ${high} digits`);
  return utf8(text);
};

/** `bound`: the digests of header and order box, and the order's amount and currency. */
export function encodeCard(bound, card) {
  const pan = asciiDigits(card.number, 12, 19);
  const cvv = asciiDigits(card.security_code, 3, 4);
  integer(1, 12)(card.expiry_month, "expiry_month");
  integer(1000, 9999)(card.expiry_year, "expiry_year");
  string(/^[A-Z]{3}$/)(bound.currency, "currency");
  return concat(
    bound.header,
    bound.orderBox,
    u64(bound.amount),
    utf8(bound.currency),
    u8(pan.length),
    pan,
    zeros(19 - pan.length),
    u8(card.expiry_month),
    u16(card.expiry_year),
    u8(cvv.length),
    cvv,
    zeros(4 - cvv.length),
    zeros(25),
  );
}

export const bindCard = (header, orderBox, { amount, currency }) => ({
  header: digest("header", header),
  orderBox: digest("order-box", orderBox),
  amount,
  currency,
});

export function decodeCard(raw) {
  if (raw.length !== 128) throw new Refused("CARD-FORM", "a card compartment has 128 bytes");
  const latin1 = (from, size) => Buffer.from(raw.subarray(from, from + size)).toString("latin1");
  const digits = (at, room) => latin1(at + 1, Math.min(raw[at], room));
  const card = {
    number: digits(75, 19),
    expiry_month: raw[95],
    expiry_year: number(raw.subarray(96, 98)),
    security_code: digits(98, 4),
  };
  try {
    const [header, orderBox, amount] = [
      raw.subarray(0, 32),
      raw.subarray(32, 64),
      number(raw.subarray(64, 72)),
    ];
    const bound = { header, orderBox, amount, currency: latin1(72, 3) };
    // One way to write each card: what was read, written again, must be what was there.
    if (!same(encodeCard(bound, card), raw)) throw new Refused(null, "not the only form of this card");
    return { bound, card };
  } catch (error) {
    throw new Refused("CARD-FORM", error.message);
  }
}

export function checkBinding({ bound, card }, header, orderBox, total) {
  const right = bindCard(header, orderBox, total);
  if (!same(bound.header, right.header))
    throw new Refused("CARD-HEADER", "the card belongs to another header");
  if (!same(bound.orderBox, right.orderBox))
    throw new Refused("CARD-ORDER-BOX", "the card belongs to another address");
  if (bound.amount !== right.amount || bound.currency !== right.currency)
    throw new Refused("ORDER-AMOUNT", "another amount");
  return card;
}

export function encodeEnvelope(header, orderBox, cardBox) {
  return concat(header, u32(orderBox.length), orderBox, u32(cardBox.length), cardBox);
}

export const frame = (raw) => concat(u32(raw.length), raw);

/** Every frame of a file, or `rule`. */
export function* frames(file, rule) {
  for (let at = 0; at < file.length;) {
    if (file.length - at < 4) throw new Refused(rule, "the file ends within a length");
    const size = number(file.subarray(at, at + 4));
    if (size > LARGEST_FRAME) throw new Refused(rule, "a frame above 65,536 bytes");
    if (size > file.length - at - 4) throw new Refused(rule, "the file ends within a frame");
    yield file.subarray(at + 4, at + 4 + size);
    at += 4 + size;
  }
}

/** Header and boxes of an envelope, by its lengths alone. */
export function splitEnvelope(raw) {
  if (raw.length < HEADER_SIZE + 8) throw new Refused("ENVELOPE-FORM", "shorter than any envelope");
  let at = HEADER_SIZE;
  const box = () => {
    const size = at + 4 <= raw.length ? number(raw.subarray(at, at + 4)) : Infinity;
    if (size > raw.length - at - 4) throw new Refused("ENVELOPE-FORM", "ends within a box");
    at += 4 + size;
    return raw.subarray(at - size, at);
  };
  const [order, card] = [box(), box()];
  if (at !== raw.length) throw new Refused("ENVELOPE-FORM", "bytes behind the card box");
  return { header: raw.subarray(0, HEADER_SIZE), order, card };
}

export function checkHeader(raw) {
  if (raw.length !== HEADER_SIZE) throw new Refused("ENVELOPE-HEADER", "a header has 92 bytes");
  const fields = decodeHeader(raw);
  if (fields.version !== 1 || ![1, 2].includes(fields.kind))
    throw new Refused("ENVELOPE-HEADER", "unknown version or kind");
  if (fields.zero !== 0) throw new Refused("ENVELOPE-HEADER", "a byte that must be zero");
  return fields;
}

/** What a reader without keys can say of one envelope; `kinds` are those it has a use for. */
export function decodeEnvelope(raw, kinds = [1, 2]) {
  if (raw.length > LARGEST_ENVELOPE) throw new Refused("ORDER-SIZE", "an envelope above 20,000 bytes");
  const { header, order, card } = splitEnvelope(raw);
  const fields = checkHeader(header);
  if (fields.suite !== 1) throw new Refused("ORDER-SUITE", `suite ${fields.suite}`);
  if (!kinds.includes(fields.kind)) throw new Refused("ORDER-KIND", `kind ${fields.kind}`);
  const padded = order.length - 48;
  if (padded < STEP || padded > LARGEST || padded % STEP !== 0)
    throw new Refused("ORDER-UNREADABLE", "size of the order box");
  if (card.length !== (fields.kind === 1 ? CARD_BOX_SIZE : 0))
    throw new Refused("CARD-UNREADABLE", "size of the card box");
  if (fields.kind === 2 && !/^0*$/.test(fields.batch_key + fields.basket))
    throw new Refused("ENVELOPE-HEADER", "a subject request with a batch key or basket");
  return { header, fields, order, card };
}
