// Canonical JSON of section 3, and shapes: which members a structure has and what each may hold.
// Why here: manifests, key rolls and records are all read this one way.
// Must not: read an order compartment, whose JSON is not canonical (order.mjs does).

import { Refused, same, utf8 } from "./primitives.mjs";

function text(value) {
  // Printable ASCII and the line feed; the page has no escape for any other character.
  if (!/^[\x20-\x7e\n]*$/.test(value)) throw new Refused(null, "a string that canonical JSON cannot hold");
  return '"' + value.replace(/["\\]/g, "\\$&").replace(/\n/g, "\\n") + '"';
}

export function encode(value) {
  if (value === null) return "null";
  if (typeof value === "string") return text(value);
  if (typeof value === "number") {
    if (!Number.isSafeInteger(value) || value < 0 || Object.is(value, -0))
      throw new Refused(null, "not an integer in range");
    return String(value);
  }
  if (Array.isArray(value)) return "[" + value.map(encode).join(",") + "]";
  if (typeof value !== "object") throw new Refused(null, "not a kind of value that canonical JSON has");
  const names = Object.keys(value).sort();
  return "{" + names.map((name) => text(name) + ":" + encode(value[name])).join(",") + "}";
}

/** The value of canonical bytes in the given shape; refused when encoding it again differs in any byte. */
export function decode(raw, shape, { rule = null, limit }) {
  if (raw.length > limit) throw new Refused(rule, `longer than ${limit} bytes`);
  try {
    const value = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(raw));
    if (!same(utf8(encode(value)), raw)) throw new Refused(rule, "not canonical JSON");
    shape(value, "it");
    return value;
  } catch (error) {
    throw new Refused(rule, error.message);
  }
}

// Shapes: functions that throw when a value is not of theirs.

const must = (holds, where, what) => {
  if (!holds) throw new Refused(null, `${where} is not ${what}`);
};
export const integer =
  (low = 0, high = Number.MAX_SAFE_INTEGER) =>
  (value, where) =>
    must(
      Number.isSafeInteger(value) && value >= low && value <= high,
      where,
      `an integer from ${low} to ${high}`,
    );
export const hexOf = (size) => (value, where) =>
  must(
    typeof value === "string" && value.length === 2 * size && /^[0-9a-f]*$/.test(value),
    where,
    `hex of ${size} bytes`,
  );
export const string =
  (pattern = /^/) =>
  (value, where) =>
    must(typeof value === "string" && pattern.test(value), where, `text like ${pattern}`);
export const oneOf =
  (...values) =>
  (value, where) =>
    must(values.includes(value), where, `one of ${values.join(", ")}`);
export const nullOr = (shape) => (value, where) => value === null || shape(value, where);
export const listOf =
  (shape, low = 0, high = Infinity) =>
  (value, where) => {
    must(
      Array.isArray(value) && value.length >= low && value.length <= high,
      where,
      `a list of ${low} to ${high}`,
    );
    value.forEach((item, i) => shape(item, `${where}[${i}]`));
  };
export const object = (members) => (value, where) => {
  must(typeof value === "object" && value !== null && !Array.isArray(value), where, "an object");
  const [want, have] = [Object.keys(members).sort(), Object.keys(value).sort()];
  must(
    want.join() === have.join(),
    where,
    `an object of exactly ${want.join(", ")} (it has ${have.join(", ")})`,
  );
  for (const name of want) members[name](value[name], `${where}.${name}`);
};
export const nodeId = string(/^[a-z0-9][a-z0-9-]{0,31}$/);
