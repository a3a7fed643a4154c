// The course of one order from the press of the button to an answer.
// Why here: what is retried, resealed or given up decides whether somebody pays twice, so it stands alone, without a page.
// Must not: make a second Idempotency-Key for an order, or seal anew while an answer to the last bytes may be fetched.

const TRIES = 3;
const ROUNDS = 5;

/**
 * One attempt to have an order taken. `unanswered` is what the last attempt sent without an answer, or null.
 * `seal(keysDocument, now)` gives the request's text; `net` has `keys()`, `post(text)` and `wait(milliseconds)`.
 * The outcome: {kind: "taken", id, token, earlier}, "unreached" (nothing was sent), "unanswered" (with the text),
 * "closed" (no cards now), "untrusted", "differs" or "refused".
 */
export async function place({ seal, net, unanswered }) {
  if (unanswered !== null) {
    // The first answer may only have been lost: the same bytes are answered as the first time.
    const answer = await patiently(net, unanswered);
    if (answer === null) return { kind: "unanswered", text: unanswered };
    if (answer.status === 202) return taken(answer, true);
  }
  for (let round = 0; round < ROUNDS; round++) {
    const keys = await net.keys();
    if (keys === null) return { kind: "unreached" };
    if (keys.status !== 200) return refusal(keys);
    let text;
    try {
      text = seal(keys.document, keys.now);
    } catch (error) {
      if (error.rule === "ORDER-SIZE") return { kind: "size" };
      return { kind: "untrusted" };
    }
    const answer = await patiently(net, text);
    if (answer === null) return { kind: "unanswered", text };
    if (answer.status === 202) return taken(answer, false);
    // The key was cut while the page was open. The server would have known the order: it was not taken.
    if (answer.document.rule !== "INTAKE-RESEAL") return refusal(answer);
  }
  return { kind: "refused" };
}

/** Whether an order that was sent before stands already; null when that cannot be learnt now. */
export async function find(net, text) {
  const answer = await net.post(text);
  if (answer === null || answer.status >= 500) return null;
  return answer.status === 202 ? taken(answer, true) : { kind: "unknown" };
}

async function patiently(net, text) {
  for (let turn = 1; ; turn++) {
    const answer = await net.post(text);
    const again = answer === null || (answer.status >= 500 && !isClosed(answer));
    if (!again || turn === TRIES) return answer !== null && again ? null : answer;
    await net.wait(1000 * 2 ** (turn - 1));
  }
}

const isClosed = ({ document }) => ["INTAKE-KEYS-OUT", "INTAKE-RETIRED"].includes(document.rule);

function taken({ document }, earlier) {
  return { kind: "taken", id: document.order_id, token: document.access_token, earlier };
}

function refusal({ status, document }) {
  if (isClosed({ document })) return { kind: "closed", title: document.title, detail: document.detail };
  if (document.rule === "INTAKE-IDEMPOTENCY-CONFLICT") return { kind: "differs" };
  return { kind: status >= 500 ? "unreached" : "refused" };
}
