// Digests, sealed boxes, signatures and minisign files, from sections 1, 2 and 8 of transfer/FORMAT.md.
// Why here: what the other files of this second implementation stand on. It shares no code with the Python one.
// Must not: be used outside the tests; it wipes nothing.

import { blake2b } from "@noble/hashes/blake2b";
import { sha256 as nobleSha256 } from "@noble/hashes/sha2";
import nacl from "tweetnacl";

export const utf8 = (text) => new TextEncoder().encode(text);
export const hex = (bytes) => Buffer.from(bytes).toString("hex");
export const base64 = (bytes) => Buffer.from(bytes).toString("base64");
export const sha256 = nobleSha256;

/** The page names a rule for most refusals; where it names none, `rule` is null. */
export class Refused extends Error {
  constructor(rule, message) {
    super(message);
    this.rule = rule;
  }
}

export function concat(...parts) {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

function unsigned(value, size) {
  const number = BigInt(value);
  if (number < 0n || number >> BigInt(8 * size) !== 0n)
    throw new Refused(null, `${value} does not fit u${8 * size}`);
  return Uint8Array.from({ length: size }, (_, i) => Number((number >> BigInt(8 * (size - 1 - i))) & 255n));
}
export const u8 = (value) => unsigned(value, 1);
export const u16 = (value) => unsigned(value, 2);
export const u32 = (value) => unsigned(value, 4);
export const u64 = (value) => unsigned(value, 8);

/** A number from big-endian bytes; refuses what JavaScript cannot hold exactly. */
export function number(bytes) {
  const value = bytes.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new Refused(null, "a number above 2^53 - 1");
  return Number(value);
}

export function same(a, b) {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

export function fromHex(text, size) {
  if (
    typeof text !== "string" ||
    !/^(?:[0-9a-f]{2})*$/.test(text) ||
    (size !== undefined && text.length !== 2 * size)
  )
    throw new Refused(null, `not ${size ?? "some"} bytes of lower-case hexadecimal`);
  return Uint8Array.from(Buffer.from(text, "hex"));
}

/** Node's decoder forgives; this one takes only what an encoder would have written. */
export function fromBase64(text) {
  const bytes = Uint8Array.from(Buffer.from(text, "base64"));
  if (base64(bytes) !== text) throw new Refused(null, "not base64");
  return bytes;
}

export function digest(domain, data, size = 32) {
  const name = utf8("sealed-orders/v1/" + domain);
  return blake2b(concat(u8(name.length), name, data), { dkLen: size });
}

export const keyId = (publicKey) => digest("key-id", publicKey, 16);
export const fingerprint = (publicKey) =>
  hex(digest("fingerprint", publicKey, 16))
    .match(/.{4}/g)
    .join("-");

const boxNonce = (ephemeral, recipient) => blake2b(concat(ephemeral, recipient), { dkLen: 24 });

export const publicKeyOf = (secretKey) => nacl.box.keyPair.fromSecretKey(secretKey).publicKey;

/** libsodium's crypto_box_seal, by hand: tweetnacl has the box, not the sealed one. */
export function seal(message, recipient) {
  const { publicKey, secretKey } = nacl.box.keyPair();
  return concat(publicKey, nacl.box(message, boxNonce(publicKey, recipient), recipient, secretKey));
}

/** The message of a sealed box, or null when it does not open. */
export function unseal(box, secretKey) {
  if (box.length < 48) return null;
  const recipient = publicKeyOf(secretKey);
  const ephemeral = box.subarray(0, 32);
  return nacl.box.open(box.subarray(32), boxNonce(ephemeral, recipient), ephemeral, secretKey);
}

export function verifySignature(message, signature, publicKey) {
  return signature.length === 64 && nacl.sign.detached.verify(message, signature, publicKey);
}

/** Signature over a digest under a domain, as key entries, revocations and handovers have it. */
export function verifyDigest(domain, data, signature, publicKey) {
  return verifySignature(
    concat(utf8("sealed-orders/v1/" + domain), u8(0), digest(domain, data)),
    signature,
    publicKey,
  );
}

/** The two lines of a minisign public key. The page only names the form; minisign itself defines it. */
export function readMinisignPublicKey(text) {
  const raw = fromBase64(text.split("\n")[1] ?? "");
  if (raw.length !== 42 || raw[0] !== 0x45 || raw[1] !== 0x64)
    throw new Refused(null, "not a minisign public key");
  const publicKey = raw.subarray(10);
  if (!same(raw.subarray(2, 10), digest("minisign-key-number", publicKey, 8)))
    throw new Refused(null, "the key number is not the digest of the key");
  return publicKey;
}

/** Verify the text of a .minisig file over `file`; the trusted comment must be exactly `comment`. */
export function verifyMinisign(file, text, publicKey, comment, rule) {
  const lines = text.split("\n");
  if (lines.length !== 5 || lines[4] !== "")
    throw new Refused(rule, "a signature has four lines, each with a line feed");
  if (!lines[0].startsWith("untrusted comment: ")) throw new Refused(rule, "no untrusted comment");
  if (lines[2] !== "trusted comment: " + comment) throw new Refused(rule, "signed as another kind of file");
  let first, second;
  try {
    first = fromBase64(lines[1]);
    second = fromBase64(lines[3]);
  } catch {
    throw new Refused(rule, "the signature is not base64");
  }
  if (first.length !== 74 || first[0] !== 0x45 || first[1] !== 0x44)
    throw new Refused(rule, "not the prehashed form");
  if (!same(first.subarray(2, 10), digest("minisign-key-number", publicKey, 8)))
    throw new Refused(rule, "another signer");
  const signature = first.subarray(10);
  if (!verifySignature(blake2b(file, { dkLen: 64 }), signature, publicKey))
    throw new Refused(rule, "bad signature");
  if (!verifySignature(concat(signature, utf8(comment)), second, publicKey))
    throw new Refused(rule, "bad comment signature");
}
