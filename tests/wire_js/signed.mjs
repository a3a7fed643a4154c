// Key entries, key roll, bundle and return, from sections 8 to 11 of transfer/FORMAT.md.
// Why here: all that a reader without private keys can judge of what crosses the gap.
// Must not: open anything sealed.

import { readFileSync, readdirSync, lstatSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { decode, hexOf, integer, listOf, nodeId, nullOr, object, oneOf, string } from "./canonical.mjs";
import { decodeEnvelope, frames } from "./order.mjs";
import * as crypt from "./primitives.mjs";

const { Refused, concat, digest, fromHex, hex, sha256, u32, u64, u8, utf8 } = crypt;
const ROLE = { order: 1, batch: 2 };
const role = oneOf(...Object.keys(ROLE));
const u32Number = (low = 0) => integer(low, 0xffffffff);
const KIB = 1024;

// Section 9.

export const ENTRY = object({
  role,
  node: nodeId,
  epoch: u32Number(),
  number: u32Number(1),
  public_key: hexOf(32),
  seal_until: integer(),
  destroy_at: integer(),
  signature: hexOf(64),
});
const ROLL = object({
  format: oneOf(1),
  kind: oneOf("key-roll"),
  node: nodeId,
  epoch: u32Number(),
  number: integer(),
  issued_at: integer(),
  prev: hexOf(32),
  order_keys: listOf(ENTRY),
  batch_keys: listOf(ENTRY),
});

export function verifyEntry(entry, identity) {
  ENTRY(entry, "entry");
  const node = utf8(entry.node);
  const covered = concat(
    u8(ROLE[entry.role]),
    u8(node.length),
    node,
    u32(entry.epoch),
    u32(entry.number),
    fromHex(entry.public_key, 32),
    u64(entry.seal_until),
    u64(entry.destroy_at),
  );
  if (!crypt.verifyDigest("key-entry", covered, fromHex(entry.signature, 64), identity))
    throw new Refused("ROLL-ENTRY", "the entry is not signed by this identity");
  return hex(crypt.keyId(fromHex(entry.public_key, 32)));
}

export function readRoll(raw, node, identity) {
  const roll = decode(raw, ROLL, { rule: "FORMAT-JSON", limit: 4 * KIB * KIB });
  if (roll.node !== node) throw new Refused("ROLL-NODE", "a key roll for another node");
  const keys = [...roll.order_keys, ...roll.batch_keys].map((entry) => entry.public_key);
  if (new Set(keys).size !== keys.length) throw new Refused("ROLL-ENTRY", "a key twice"); // only the vectors say so
  for (const [kind, entries] of [
    ["order", roll.order_keys],
    ["batch", roll.batch_keys],
  ]) {
    for (const entry of entries) {
      // Of the epoch, too, only the vectors say so.
      if (entry.role !== kind || entry.node !== node || entry.epoch > roll.epoch)
        throw new Refused("ROLL-ENTRY", "an entry that does not belong here");
      verifyEntry(entry, identity);
    }
    if (entries.some((entry, i) => i > 0 && entry.number <= entries[i - 1].number))
      throw new Refused("ROLL-ENTRY", "entries that are not in the order of their numbers");
  }
  return roll;
}

// Files.

const checkRoom = (path, names, rule) => {
  const found = readdirSync(path).sort();
  if (found.join() !== [...names].sort().join()) throw new Refused(rule, `it holds ${found.join(", ")}`);
  if (!found.every((name) => lstatSync(join(path, name)).isFile()))
    throw new Refused(rule, "not all plain files");
};
const read = (path, name) => Uint8Array.from(readFileSync(join(path, name)));
const text = (path, name) => Buffer.from(read(path, name)).toString("latin1");
const differs = (raw, size, sum) => raw.length !== size || hex(sha256(raw)) !== sum;
const ZEROS = "0".repeat(64);

// Section 10.

const BUNDLE = object({
  format: oneOf(1),
  kind: oneOf("bundle"),
  node: nodeId,
  sequence: integer(1, 99_999_999),
  prev: hexOf(32),
  count: integer(0, 1_000_000),
  envelopes_size: integer(0, 2 ** 32),
  envelopes_sha256: hexOf(32),
  batch_key: nullOr(hexOf(16)),
  time: integer(),
  return: nullOr(object({ manifest: string(), signature: string() })),
});

const BUNDLE_FILES = ["envelopes.bin", "manifest.json", "manifest.json.minisig"];

/** `signer` is the node's key, `identity` the offline side's; `last` = {sequence, prev} where the chain is known. */
export function readBundle(path, known) {
  checkRoom(path, BUNDLE_FILES, "BUNDLE-FORMAT");
  const [envelopes, manifest] = BUNDLE_FILES.slice(0, 2).map((name) => read(path, name));
  const bundle = judgeBundle({ manifest, signature: text(path, "manifest.json.minisig"), envelopes }, known);
  const place = "b" + String(bundle.manifest.sequence).padStart(8, "0");
  if (basename(path) !== place || basename(dirname(path)) !== bundle.manifest.node)
    throw new Refused("BUNDLE-FORMAT", "the directory is named for another bundle");
  return bundle;
}

export function judgeBundle({ manifest: raw, signature, envelopes: file }, { signer, identity, last }) {
  crypt.verifyMinisign(raw, signature, signer, "sealed-orders v1 bundle", "BUNDLE-SIGNATURE");
  const manifest = decode(raw, BUNDLE, { rule: "BUNDLE-FORMAT", limit: 16 * KIB });
  if (manifest.sequence === 1 && manifest.prev !== ZEROS)
    throw new Refused("BUNDLE-SEQUENCE", "nothing comes before the first");
  if (last) checkPlace(manifest, hex(digest("bundle-manifest", raw)), last);
  const confirmed = identity && manifest.return ? readReturnInBundle(manifest, identity) : null;
  if (differs(file, manifest.envelopes_size, manifest.envelopes_sha256))
    throw new Refused("BUNDLE-DAMAGED", "envelopes.bin is not the one of the manifest");
  const envelopes = [...frames(file, "BUNDLE-DAMAGED")].map((envelope) =>
    judge(envelope, manifest.batch_key),
  );
  if (envelopes.length !== manifest.count) throw new Refused("BUNDLE-DAMAGED", "another number of envelopes");
  const orders = envelopes.filter((envelope) => envelope.kind !== 2).length;
  if ((manifest.batch_key === null) !== (orders === 0))
    throw new Refused("BUNDLE-FORMAT", "a batch key exactly when there are orders");
  return { manifest, digest: hex(digest("bundle-manifest", raw)), confirmed, envelopes };
}

function checkPlace(manifest, own, last) {
  if (manifest.sequence <= last.sequence) {
    const known = manifest.sequence === last.sequence && own === last.prev;
    throw new Refused(
      known ? null : "BUNDLE-FORK",
      known ? "known" : "another bundle of a sequence that was taken",
    );
  }
  if (manifest.sequence !== last.sequence + 1 || manifest.prev !== last.prev)
    throw new Refused("BUNDLE-SEQUENCE", "not the next bundle of this chain");
}

function readReturnInBundle({ node, return: carried }, identity) {
  const raw = utf8(carried.manifest);
  crypt.verifyMinisign(raw, carried.signature, identity, "sealed-orders v1 return", "BUNDLE-RETURN");
  const manifest = decode(raw, RETURN, { rule: "BUNDLE-RETURN", limit: 16 * KIB });
  if (manifest.node !== node) throw new Refused("BUNDLE-RETURN", "a return to another node");
  return { epoch: manifest.epoch, number: manifest.number };
}

function judge(envelope, batchKey) {
  try {
    const { fields } = decodeEnvelope(envelope);
    if (fields.kind === 1 && fields.batch_key !== batchKey)
      throw new Refused("ORDER-BATCH-KEY", "another batch key");
    return { ok: true, ...fields, size: envelope.length };
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return { ok: false, rule: error.rule, message: error.message };
  }
}

// Section 11.

const RETURN = object({
  format: oneOf(1),
  kind: oneOf("return"),
  node: nodeId,
  epoch: integer(0, 9_999),
  number: integer(0, 99_999_999),
  prev: hexOf(32),
  accepted: integer(),
  keyroll_sha256: hexOf(32),
  records: integer(),
  records_sha256: hexOf(32),
  records_size: integer(),
  time: integer(),
});

const BUNDLE_RULES = "DAMAGED FORK FORMAT KEY LEDGER-BEHIND RETURN SEQUENCE SIGNATURE"
  .split(" ")
  .map((rule) => "BUNDLE-" + rule);
const STATES = ["held", "authorised", "paid", "declined", "order-again", "dispatched", "refunded"];
const REASONS =
  "none under-review card-declined card-expired new-card try-later call-bank not-readable expired".split(" ");
const RECORDS = {
  receipt: {
    manifest: hexOf(32),
    orders: integer(),
    outcome: oneOf("processed", "expired", "empty"),
    sequence: integer(1),
    settled_at: integer(),
  },
  status: { changed_at: integer(), order: hexOf(16), reason: oneOf(...REASONS), state: oneOf(...STATES) },
  refusal: { expected: integer(1), rule: oneOf(...BUNDLE_RULES), seen_at: integer() },
  revocation: { epoch: u32Number(), key: hexOf(16), revoked_at: integer(), role, signature: hexOf(64) },
  handover: {
    epoch: u32Number(),
    from: integer(),
    new_identity: hexOf(32),
    new_signature: hexOf(64),
    old_identity: hexOf(32),
    old_signature: hexOf(64),
  },
  subject: { changed_at: integer(), request: hexOf(16), state: oneOf("done", "refused") },
};
const RECORD = (value, where) => {
  const members = Object.hasOwn(RECORDS, value?.kind) ? RECORDS[value.kind] : null;
  if (members === null) throw new Refused(null, `${where} is of no known kind`);
  object({ ...members, kind: oneOf(value.kind) })(value, where);
};

export function verifyRevocation(record, identity) {
  const covered = concat(
    u8(ROLE[record.role]),
    u32(record.epoch),
    fromHex(record.key, 16),
    u64(record.revoked_at),
  );
  if (!crypt.verifyDigest("revocation", covered, fromHex(record.signature, 64), identity))
    throw new Refused("REVOCATION-SIGNATURE", "a revocation that this identity did not sign");
}

export function verifyHandover(record, identity) {
  const [old, next] = [fromHex(record.old_identity, 32), fromHex(record.new_identity, 32)];
  const covered = concat(u32(record.epoch), u64(record.from), old, next);
  const signed = (signature, key) => crypt.verifyDigest("handover", covered, fromHex(signature, 64), key);
  if (crypt.same(old, next) || !signed(record.old_signature, old) || !signed(record.new_signature, next))
    throw new Refused("HANDOVER-SIGNATURE", "a handover that is not signed by both identities");
  if (!crypt.same(old, identity)) throw new Refused("HANDOVER-FROM", "a handover from another identity");
}

export function readRecord(line, identity, rule) {
  // The page gives "each line" 1,024 bytes; this reader counts the line feed with it.
  const record = decode(line, RECORD, { rule, limit: KIB - 1 });
  if (record.kind === "revocation") verifyRevocation(record, identity);
  if (record.kind === "handover") verifyHandover(record, identity);
  return record;
}

/** A revocation that is not signed is ignored; the rest of the return stands. */
function readRecordOfReturn(line, identity) {
  try {
    return readRecord(line, identity, "RETURN-FORMAT");
  } catch (error) {
    if (error.rule !== "REVOCATION-SIGNATURE") throw error;
    return { kind: "revocation", ignored: true };
  }
}

function checkHandovers(records, epoch) {
  const handovers = records.filter((record) => record.kind === "handover");
  if (handovers.some((record) => record.epoch > epoch))
    throw new Refused("HANDOVER-EPOCH", "a handover of a later epoch than its return");
  if (handovers.length > 1) throw new Refused("HANDOVER-CONFLICT", "more than one handover");
}

export function readRecords(raw, identity) {
  const records = [];
  for (let at = 0; at < raw.length;) {
    const end = raw.indexOf(0x0a, at);
    if (end < 0) throw new Refused("RETURN-FORMAT", "a record without its line feed");
    records.push(readRecordOfReturn(raw.subarray(at, end), identity));
    at = end + 1;
  }
  return records;
}

const RETURN_FILES = ["keyroll.json", "manifest.json", "records.jsonl", "manifest.json.minisig"];

export function readReturn(path, known) {
  checkRoom(path, RETURN_FILES, "RETURN-FORMAT");
  const [keyroll, manifest, records] = RETURN_FILES.slice(0, 3).map((name) => read(path, name));
  const taken = judgeReturn(
    { keyroll, manifest, records, signature: text(path, "manifest.json.minisig") },
    known,
  );
  const { epoch, number } = taken.manifest;
  const place = `r${String(epoch).padStart(4, "0")}-${String(number).padStart(8, "0")}`;
  if (basename(path) !== place || basename(dirname(path)) !== known.node)
    throw new Refused("RETURN-FORMAT", "the directory is named for another return");
  return taken;
}

export function judgeReturn({ keyroll, manifest: raw, records: lines, signature }, { identity, node, last }) {
  crypt.verifyMinisign(raw, signature, identity, "sealed-orders v1 return", "RETURN-SIGNATURE");
  const manifest = decode(raw, RETURN, { rule: "RETURN-FORMAT", limit: 16 * KIB });
  if (manifest.node !== node) throw new Refused("RETURN-NODE", "a return to another node");
  if (
    last &&
    (manifest.epoch < last.epoch || (manifest.epoch === last.epoch && manifest.number <= last.number))
  )
    throw new Refused(null, "not higher than the return taken last");
  if (hex(sha256(keyroll)) !== manifest.keyroll_sha256)
    throw new Refused("RETURN-DAMAGED", "another key roll");
  if (differs(lines, manifest.records_size, manifest.records_sha256))
    throw new Refused("RETURN-DAMAGED", "other records");
  const records = readRecords(lines, identity);
  if (records.length !== manifest.records) throw new Refused("RETURN-FORMAT", "another number of records");
  checkHandovers(records, manifest.epoch);
  return {
    manifest,
    digest: hex(digest("return-manifest", raw)),
    records,
    roll: readRoll(keyroll, node, identity),
  };
}

/** What enrolment hands to a node: the identity, its first key roll and that roll's signature. */
export function readEnrolment(path, { node, fingerprint }) {
  checkRoom(path, ["identity.pub", "keyroll.json", "keyroll.json.minisig"], "TRUST-FILES");
  const identity = crypt.readMinisignPublicKey(text(path, "identity.pub"));
  if (crypt.fingerprint(identity) !== fingerprint) throw new Refused("TRUST-FINGERPRINT", "another identity");
  const raw = read(path, "keyroll.json");
  const signature = text(path, "keyroll.json.minisig");
  crypt.verifyMinisign(raw, signature, identity, "sealed-orders v1 key-roll", "TRUST-ROLL");
  return { identity: hex(identity), roll: readRoll(raw, node, identity) };
}
