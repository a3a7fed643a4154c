// The check of the two keys to seal to (transfer/FORMAT.md, section 9).
// Why here: a key that the offline identity has not signed is anybody's.
// Must not: trust what the keys' own document says of who signed it.

import { concat, fromHex, isSigned, unsigned, utf8 } from "./bytes.js";

const ROLE = { order: 1, batch: 2 };

/** The public keys of the document of /keys. `now` in seconds. Throws with a rule when one is not to be used. */
export function checkedKeys(document, { node, identities, now }) {
  return { order: checked(document.order_key, "order"), batch: checked(document.batch_key, "batch") };

  function checked(entry, role) {
    const refuse = (rule) => {
      throw Object.assign(new Error(rule), { rule });
    };
    if (document.node !== node || entry.node !== node) refuse("ROLL-NODE");
    if (entry.role !== role) refuse("ROLL-ENTRY");
    const publicKey = fromHex(entry.public_key, 32);
    const name = utf8(node);
    const covered = concat(
      unsigned(ROLE[role], 1),
      unsigned(name.length, 1),
      name,
      unsigned(entry.epoch, 4),
      unsigned(entry.number, 4),
      publicKey,
      unsigned(entry.seal_until, 8),
      unsigned(entry.destroy_at, 8),
    );
    const signature = fromHex(entry.signature, 64);
    if (!identities.some((identity) => isSigned("key-entry", covered, signature, fromHex(identity, 32))))
      refuse("ROLL-ENTRY");
    if (now >= entry.seal_until) refuse("PAGE-KEY-ENDED");
    return publicKey;
  }
}
