// What the page remembers in the browser: the order under way (this tab) and what was in each order (to order again).
// Why here: an answer that is lost must not become a second order, even when the page is loaded again.
// Must not: hold a card, a name or an address.

const UNDER_WAY = "order-under-way";
const ORDERS = "orders";
const KEPT = 20;

const quietly = (act) => {
  try {
    return act();
  } catch {
    return null; // storage is switched off or full: everything works without it, only less is remembered
  }
};
const read = (store, name) => quietly(() => JSON.parse(store().getItem(name)));
const session = () => window.sessionStorage;
const local = () => window.localStorage;

/** {key, order}: the Idempotency-Key and the basket that was sent with it. */
export const underWay = () => read(session, UNDER_WAY);
export const rememberUnderWay = (key, order) =>
  quietly(() => session().setItem(UNDER_WAY, JSON.stringify({ key, order })));
/** Only the order of this key: an answer about an earlier one says nothing of the one that is under way now. */
export const forgetUnderWay = (key) => {
  if (underWay()?.key === key) quietly(() => session().removeItem(UNDER_WAY));
};

export function rememberOrder(id, { items, total }) {
  const text = [total.currency, ...items.map(({ sku, quantity }) => `${sku}*${quantity}`)].join(":");
  const orders = [...Object.entries(read(local, ORDERS) ?? {}).filter(([known]) => known !== id), [id, text]];
  quietly(() => local().setItem(ORDERS, JSON.stringify(Object.fromEntries(orders.slice(-KEPT)))));
}

/** The basket of an order made in this browser, as the basket's cookie has it, or null. */
export const basketOf = (id) => (read(local, ORDERS) ?? {})[id] ?? null;
