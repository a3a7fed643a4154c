// The course of one order from the press of the button to an answer.
// Why here: what is retried, resealed or given up decides whether somebody pays twice, so it stands alone, without a page.
// Must not: make a second Idempotency-Key for an order, or seal anew while an answer to the last bytes may be fetched.

const TRIES = 3;
const ROUNDS = 5;
const TOO_MANY = 429;
// Too late, too early, too many: these say nothing of the order itself.
const PASSING = [408, 425, TOO_MANY];

/**
 * One attempt to have an order taken. `unanswered` is what the last attempt sent without an answer, or null; `probe`
 * asks whether that order stands without sending it again, and is null while the form is as it was then.
 * `seal(keysDocument, now)` gives the request's text; `net` has `keys()`, `post(text)` and `wait(milliseconds)`.
 * The outcome: {kind: "taken", id, token, earlier}, "unreached" (nothing was sent), "unanswered" (with the text),
 * "limited" (with the text, where that may have been taken, and the patience in seconds that is asked for), "closed"
 * (no cards now), "untrusted", "differs", "size" or "refused".
 */
export async function place({ seal, net, unanswered, probe = null }) {
  if (unanswered !== null) {
    // The first answer may only have been lost. The same bytes are answered as the first time; but who has changed
    // something since wants it changed, unless the order stands already.
    const { answer } = await patiently(net, probe ?? unanswered);
    if (!isVerdict(answer)) return undecided(answer, unanswered);
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
    const { answer, isLost } = await patiently(net, text);
    if (!isVerdict(answer)) return undecided(answer, answer?.status === TOO_MANY && !isLost ? null : text);
    if (answer.status === 202) return taken(answer, false);
    // The key was cut while the page was open. The server would have known the order: it was not taken.
    if (answer.document.rule !== "INTAKE-RESEAL") return refusal(answer);
  }
  return { kind: "refused" };
}

/**
 * Whether an order that was sent before stands already: "taken", "differs" (it does, with another basket) or "unknown"
 * (it does not); "unanswered" or "limited" when nobody says.
 */
export async function find(net, text) {
  const answer = await net.post(text);
  if (!isVerdict(answer)) return undecided(answer, text);
  if (answer.status === 202) return taken(answer, true);
  return { kind: answer.document.rule === "INTAKE-IDEMPOTENCY-CONFLICT" ? "differs" : "unknown" };
}

/** The last answer to `text`, and whether an earlier try may have been taken without our learning it. */
async function patiently(net, text) {
  let isLost = false;
  for (let turn = 1; ; turn++) {
    const answer = await net.post(text);
    if (isVerdict(answer) || answer?.status === TOO_MANY || turn === TRIES) return { answer, isLost };
    isLost = true;
    await net.wait(1000 * 2 ** (turn - 1));
  }
}

/** Whether an answer is the shop's own and says what became of the order; a proxy's page says nothing of it. */
function isVerdict(answer) {
  if (answer === null) return false;
  const { status, document } = answer;
  if (status === 202) return typeof document.order_id === "string" && typeof document.access_token === "string";
  if (typeof document.rule !== "string") return false;
  return isClosed(document) || (status >= 400 && status < 500 && !PASSING.includes(status));
}

const isClosed = ({ rule }) => ["INTAKE-KEYS-OUT", "INTAKE-RETIRED"].includes(rule);

const undecided = (answer, text) =>
  answer?.status === TOO_MANY ? { kind: "limited", text, patience: answer.patience } : { kind: "unanswered", text };

function taken({ document }, earlier) {
  return { kind: "taken", id: document.order_id, token: document.access_token, earlier };
}

function refusal({ status, document, patience }) {
  if (isClosed(document)) return { kind: "closed", title: document.title, detail: document.detail };
  if (document.rule === "INTAKE-IDEMPOTENCY-CONFLICT") return { kind: "differs" };
  if (status === TOO_MANY) return { kind: "limited", text: null, patience };
  return { kind: status >= 500 ? "unreached" : "refused" };
}
