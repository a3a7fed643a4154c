// Bytes, digests and sealed boxes (transfer/FORMAT.md, sections 1 and 2).
// Why here: sealing and the check of keys stand on these.
// Must not: know what an order is.

import { blake2b } from "@noble/hashes/blake2b";
import nacl from "tweetnacl";

export const utf8 = (text) => new TextEncoder().encode(text);
export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
export const base64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));

export function concat(...parts) {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** An unsigned number of `size` bytes, big-endian. */
export function unsigned(value, size) {
  const bytes = new Uint8Array(size);
  let rest = value;
  if (!Number.isSafeInteger(value) || value < 0) throw new Error("not a whole number");
  for (let at = size - 1; at >= 0; at--) {
    bytes[at] = rest % 256;
    rest = Math.floor(rest / 256);
  }
  if (rest) throw new Error("a number that does not fit");
  return bytes;
}

/** Bytes from exactly `size` bytes of lower-case hexadecimal. */
export function fromHex(text, size) {
  if (typeof text !== "string" || text.length !== 2 * size || !/^[0-9a-f]*$/.test(text)) throw new Error("not hexadecimal");
  return Uint8Array.from({ length: size }, (_, at) => parseInt(text.slice(2 * at, 2 * at + 2), 16));
}

export function digest(domain, data, size = 32) {
  const name = utf8("sealed-orders/v1/" + domain);
  return blake2b(concat(unsigned(name.length, 1), name, data), { dkLen: size });
}

export const keyId = (publicKey) => digest("key-id", publicKey, 16);

/** libsodium's crypto_box_seal: tweetnacl has the box, the nonce is ours to make. */
export function seal(message, recipient) {
  const { publicKey, secretKey } = nacl.box.keyPair();
  const nonce = blake2b(concat(publicKey, recipient), { dkLen: 24 });
  const box = concat(publicKey, nacl.box(message, nonce, recipient, secretKey));
  secretKey.fill(0);
  return box;
}

/** True when `identity` signed `data` under `domain` (section 9). */
export function isSigned(domain, data, signature, identity) {
  const message = concat(utf8("sealed-orders/v1/" + domain), unsigned(0, 1), digest(domain, data));
  return nacl.sign.detached.verify(message, signature, identity);
}

/** A new Idempotency-Key: 128 random bits as 22 characters of base64url. */
export function newKey() {
  const text = base64(crypto.getRandomValues(new Uint8Array(16)));
  return text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
