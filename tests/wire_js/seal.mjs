// node seal.mjs: seals orders as a shop's page would, from transfer/FORMAT.md alone.
// In: {idempotency_key, order_key, batch_key (hex public keys), time, order: {items, total, customer, delivery}, card}
//     or a list of such. Out: {ok, header, order, card (base64), frame (hex)} or {ok: false, rule, message}.

import * as layout from "./order.mjs";
import { base64, fromHex, hex, seal } from "./primitives.mjs";
import { answer } from "./stdin.mjs";

answer(({ idempotency_key, order_key, batch_key, time, order, card }) => {
  const [orderKey, batchKey] = [fromHex(order_key, 32), fromHex(batch_key, 32)];
  const { orderId, nonce } = layout.namesOf(idempotency_key);
  const basket = layout.basketDigest(nonce, order.items, order.total);
  const header = layout.encodeHeader({ orderId, orderKey, batchKey, time, basket });
  const orderBox = seal(layout.encodeOrder(header, nonce, order), orderKey);
  const cardBox = seal(layout.encodeCard(layout.bindCard(header, orderBox, order.total), card), batchKey);
  return {
    header: base64(header),
    order: base64(orderBox),
    card: base64(cardBox),
    frame: hex(layout.frame(layout.encodeEnvelope(header, orderBox, cardBox))),
  };
});
