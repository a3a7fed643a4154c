// node verify.mjs: judges what is signed, from transfer/FORMAT.md alone and without a private key.
// In: {check: "key-entry" | "enrolment" | "bundle" | "return" | "envelope" | "frames" | "records", ...} or a list of such.
// Out: what was read, or {ok: false, rule, message}; keys and digests are hexadecimal.

import { decodeEnvelope, frames } from "./order.mjs";
import { fromHex, hex } from "./primitives.mjs";
import * as signed from "./signed.mjs";
import { answer } from "./stdin.mjs";

const key = (value) => fromHex(value, 32);

const CHECKS = {
  "key-entry": ({ entry, identity }) => ({ key_id: signed.verifyEntry(entry, key(identity)) }),
  enrolment: ({ directory, node, fingerprint }) => signed.readEnrolment(directory, { node, fingerprint }),
  bundle: ({ directory, signer, identity, last }) =>
    signed.readBundle(directory, { signer: key(signer), identity: identity && key(identity), last }),
  return: ({ directory, identity, node, last }) =>
    signed.readReturn(directory, { identity: key(identity), node, last }),
  envelope: ({ data }) => ({ fields: decodeEnvelope(fromHex(data)).fields }),
  frames: ({ data }) => ({ envelopes: [...frames(fromHex(data), "ENVELOPE-FRAME")].map(hex) }),
  records: ({ data, identity }) => ({ records: signed.readRecords(fromHex(data), key(identity)) }),
};

answer(({ check, ...rest }) => CHECKS[check](rest));
