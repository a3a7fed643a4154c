// Requests to the shop, and nobody else.
// Why here: a time limit and one form of answer for all.
// Must not: throw for what a network does; no answer is null.

const LIMIT = 20_000;

async function ask(path, options) {
  try {
    const answer = await fetch(path, {
      credentials: "same-origin",
      cache: "no-store",
      redirect: "follow",
      signal: AbortSignal.timeout(LIMIT),
      ...options,
    });
    const date = Date.parse(answer.headers.get("date") ?? "");
    const text = await answer.text();
    let document = {};
    try {
      document = Object(JSON.parse(text)); // whatever else JSON can be has no rule
    } catch {
      // a proxy's own page: only its status says something
    }
    return {
      status: answer.status,
      document,
      // A browser's clock is often wrong; the server's is the one that ends a key.
      now: Math.floor((Number.isNaN(date) ? Date.now() : date) / 1000),
      patience: Number(answer.headers.get("retry-after")) || 60,
    };
  } catch {
    return null;
  }
}

export const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
export const getKeys = () => ask("/keys", {});
export const getBasket = () => ask("/basket", { headers: { accept: "application/json" } });
export const getStatus = (id, token) =>
  ask(`/orders/${id}`, { cache: "no-cache", headers: { accept: "application/json", authorization: `Bearer ${token}` } });
export const getCountry = (code) => ask(`/address/${code}.json`, { cache: "default" });
export const postOrder = (key, text) =>
  ask("/orders", {
    method: "POST",
    body: text,
    headers: { "content-type": "application/json", "idempotency-key": key },
  });
export const changeBasket = (fields) => ask("/basket", { method: "POST", body: new URLSearchParams(fields) });
