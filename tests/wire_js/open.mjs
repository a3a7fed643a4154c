// node open.mjs: opens envelopes that the Python side sealed, and checks all that binds their parts together.
// In: {envelope (hex), order_secret, batch_secret (hex private keys of a test)} or a list of such.
// Out: {ok, fields (of the header), order, card} or {ok: false, rule, message}.

import * as layout from "./order.mjs";
import { Refused, fromHex, unseal } from "./primitives.mjs";
import { answer } from "./stdin.mjs";

answer(({ envelope, order_secret, batch_secret }) => {
  const { header, fields, order: orderBox, card: cardBox } = layout.decodeEnvelope(fromHex(envelope), [1]);
  const opened = unseal(orderBox, fromHex(order_secret, 32));
  if (opened === null) throw new Refused(null, "the order box does not open");
  const order = layout.decodeOrder(opened, header);
  const card = unseal(cardBox, fromHex(batch_secret, 32));
  if (card === null) throw new Refused(null, "the card box does not open");
  return { fields, order, card: layout.checkBinding(layout.decodeCard(card), header, orderBox, order.total) };
});
