// node vectors.mjs: this implementation's verdict on golden vectors of tests/vectors.
// In: a list of {kind, inputs}. Out for each: {ok, output} (what a vector's "output" lists) or {ok: false, rule, message}.
// Must not: see what a vector expects; the test compares.

import { decode } from "./canonical.mjs";
import * as layout from "./order.mjs";
import * as crypt from "./primitives.mjs";
import * as signed from "./signed.mjs";
import { answer } from "./stdin.mjs";

const { Refused, digest, fromHex, hex } = crypt;
const latin1 = (text) => Buffer.from(fromHex(text)).toString("latin1");

function openBox(box, secret, rule) {
  const opened = crypt.unseal(box, secret);
  if (opened === null) throw new Refused(rule, "a box does not open");
  return opened;
}

function sealedOrder({ envelope, order_private, batch_private }) {
  const [orderSecret, batchSecret] = [order_private, batch_private].map((secret) => fromHex(secret, 32));
  const { header, fields, order: orderBox, card: cardBox } = layout.decodeEnvelope(fromHex(envelope), [1]);
  // A reader opens by key id and never tries keys.
  const named = (secret) => hex(crypt.keyId(crypt.publicKeyOf(secret)));
  if (fields.order_key !== named(orderSecret)) throw new Refused("ORDER-KEY", "another order key");
  if (fields.batch_key !== named(batchSecret)) throw new Refused("ORDER-BATCH-KEY", "another batch key");
  const order = openBox(orderBox, orderSecret, "ORDER-UNREADABLE");
  const { total } = layout.decodeOrder(order, header);
  const card = openBox(cardBox, batchSecret, "CARD-UNREADABLE");
  layout.checkBinding(layout.decodeCard(card), header, orderBox, total);
  return { order: hex(order), card: hex(card) };
}

const KINDS = {
  digest: ({ domain, data, size }) => ({ digest: hex(digest(domain, fromHex(data), size)) }),
  fingerprint: ({ public_key }) => ({ fingerprint: crypt.fingerprint(fromHex(public_key)) }),
  "idempotency-key": ({ key }) => {
    const { orderId, nonce } = layout.namesOf(key);
    return { order_id: hex(orderId), nonce: hex(nonce) };
  },
  basket: ({ nonce, items, total }) => ({ digest: hex(layout.basketDigest(fromHex(nonce), items, total)) }),
  header: ({ raw }) => {
    const fields = layout.checkHeader(fromHex(raw));
    return {
      kind: fields.kind,
      suite: fields.suite,
      order_id: fields.order_id,
      order_key_id: fields.order_key,
      batch_key_id: fields.batch_key,
      time: fields.time,
      basket_digest: fields.basket,
      digest: hex(digest("header", fromHex(raw))),
    };
  },
  envelope: ({ raw }) => {
    const { header, order, card } = layout.splitEnvelope(fromHex(raw));
    return { header: hex(header), order_box: hex(order), card_box: hex(card) };
  },
  frames: ({ raw }) => ({ envelopes: [...layout.frames(fromHex(raw), "ENVELOPE-FRAME")].map(hex) }),
  order: ({ raw }) => {
    layout.readOrder(fromHex(raw));
    return { json: hex(layout.unpad(fromHex(raw))) };
  },
  request: ({ raw }) => {
    layout.readRequest(fromHex(raw));
    return { json: hex(layout.unpad(fromHex(raw))) };
  },
  card: ({ raw }) => {
    const { bound, card } = layout.decodeCard(fromHex(raw));
    return {
      header_digest: hex(bound.header),
      order_box_digest: hex(bound.orderBox),
      amount: bound.amount,
      currency: bound.currency,
      pan: card.number,
      expiry_month: card.expiry_month,
      expiry_year: card.expiry_year,
      cvv: card.security_code,
    };
  },
  "key-entry": ({ entry, identity }) => {
    const read = decode(fromHex(entry), signed.ENTRY, { rule: "FORMAT-JSON", limit: 4096 });
    return { key_id: signed.verifyEntry(read, fromHex(identity)) };
  },
  "key-roll": ({ raw, node, identity }) => {
    signed.readRoll(fromHex(raw), node, fromHex(identity));
    return { digest: hex(digest("key-roll", fromHex(raw))) };
  },
  bundle: ({ manifest, envelopes, signature, signer }) => {
    const parts = {
      manifest: fromHex(manifest),
      envelopes: fromHex(envelopes),
      signature: latin1(signature),
    };
    return { digest: signed.judgeBundle(parts, { signer: fromHex(signer) }).digest };
  },
  record: ({ line, identity }) => {
    const record = signed.readRecord(fromHex(line), identity && fromHex(identity), "FORMAT-JSON");
    return { kind: record.kind };
  },
  return: ({ manifest, keyroll, records, signature, identity, node }) => {
    const [raw, roll, lines] = [manifest, keyroll, records].map((part) => fromHex(part));
    const parts = { manifest: raw, keyroll: roll, records: lines, signature: latin1(signature) };
    return { digest: signed.judgeReturn(parts, { identity: fromHex(identity), node }).digest };
  },
  "sealed-order": sealedOrder,
};

answer(({ kind, inputs }) => ({ output: KINDS[kind](inputs) }));
