// What is wrong with what was typed, by the rules and in the words that the server gave with the page.
// Why here: the server must not see a card or an address, so it cannot judge them.
// Must not: have a rule or a word of its own, or touch the page.

const SPACING = /[ \-\u00a0\u2009\u202f\u2010\u2011]/g;
const HARMFUL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]|\p{Cs}/u;

/** Normal form C, without spaces around, as the server does it. */
export const clean = (text) => text.normalize("NFC").replace(/^ +| +$/g, "");

export function brandOf(digits, rules) {
  const isOf = ([low, high]) => low <= digits.slice(0, low.length) && digits.slice(0, low.length) <= high;
  return rules.brands.find((brand) => brand.beginnings.some(isOf)) ?? rules.other;
}

/** A text with the digits of every script as 0 to 9: many phones' number pads have those of their language. */
export const plainDigits = (text) => text.replace(/\p{Nd}/gu, plainDigit);

function plainDigit(character) {
  const folded = character.normalize("NFKC");
  if (folded <= "9") return folded;
  // A script's digits follow each other from its zero on.
  const code = character.codePointAt(0);
  let zero = code;
  while (/\p{Nd}/u.test(String.fromCodePoint(zero - 1))) zero -= 1;
  return String((code - zero) % 10);
}

/** The digits of a number typed with spaces or dashes, or null. */
export function digitsOf(typed) {
  const digits = typed.replace(SPACING, "");
  return typed.length <= 64 && /^[0-9]+$/.test(digits) ? digits : null;
}

function luhn(digits) {
  let sum = 0;
  [...digits].reverse().forEach((digit, at) => {
    const value = Number(digit) * (at % 2 ? 2 : 1);
    sum += value > 9 ? value - 9 : value;
  });
  return sum % 10 === 0;
}

export function numberFault(typed, rules) {
  if (!typed.trim()) return "missing";
  const digits = digitsOf(typed);
  if (digits === null) return "digits";
  const brand = brandOf(digits, rules);
  if (!brand.lengths.includes(digits.length)) return "length";
  return brand.check && !luhn(digits) ? "check" : null;
}

/** Month and year as typed: 08/29, 8/2029, 0829, 08 29, 08-2029. Null when it is not a month and a year. */
export function expiryOf(typed) {
  const found = /^\s*(\d{1,2})\s*[/\-. ]\s*(\d{4}|\d{2})\s*$/.exec(typed) ?? /^\s*(\d{2})(\d{2}|\d{4})\s*$/.exec(typed);
  if (!found) return null;
  const month = Number(found[1]);
  const year = Number(found[2]) + (found[2].length === 2 ? 2000 : 0);
  return month >= 1 && month <= 12 ? { month, year } : null;
}

export function expiryFault(typed, rules) {
  if (!typed.trim()) return "missing";
  const expiry = expiryOf(typed);
  if (!expiry) return "expiry";
  // A card holds to the last moment of the month printed on it.
  if (expiry.year < rules.year || (expiry.year === rules.year && expiry.month < rules.month)) return "expired";
  return expiry.year > rules.year + rules.years_ahead ? "far" : null;
}

export function codeFault(typed, brand) {
  if (!typed.trim()) return "missing";
  if (/^[0-9]+$/.test(typed.trim()) && brand.codes.includes(typed.trim().length)) return null;
  if (brand.codes.length > 1) return "either";
  return brand.codes[0] === 4 ? "front" : "back";
}

export function emailFault(typed) {
  const email = clean(typed);
  if (!email) return "missing";
  if (email.length > 254 || HARMFUL.test(email)) return "email";
  return /^[^\s@"(),:;<>[\\\]]+@[^\s@"(),:;<>[\\\]]+\.[^\s@"(),:;<>[\\\].]+$/.test(email) ? null : "email";
}

export function textFault(typed, limit, isRequired) {
  const text = clean(typed);
  if (!text) return isRequired ? "missing" : null;
  if ([...text].length > limit) return "long";
  return HARMFUL.test(text) ? "control" : null;
}

export function postcodeFits(typed, country) {
  return !country.postcode || new RegExp(`^(?:${country.postcode})$`, "i").test(clean(typed));
}

/** Every fault of the form as {id, text}, in the order of the page. `form`: what was typed; `country`: its rules. */
export function judge(form, country, rules) {
  const faults = [];
  const tell = (id, label, fault, after = "") => {
    if (!fault) return;
    const words = fault === "long" ? rules.faults.long[id] : rules.faults[fault];
    faults.push({ id, text: `${label}${words.startsWith("the ") ? ": " : " "}${words}${after}` });
  };
  const { labels, limits } = rules;
  tell("name", labels.name, textFault(form.name, limits.name, true));
  tell("email", labels.email, emailFault(form.email));
  if (!form.country) tell("country", labels.country, "missing");
  for (const field of (country ?? rules.anywhere).fields) {
    const fault = textFault(form[field.id], limits[field.id], field.required);
    const isOdd = !fault && field.id === "postcode" && clean(form.postcode) && country && !postcodeFits(form.postcode, country);
    tell(field.id, field.label, isOdd ? "postcode" : fault, isOdd ? ` ${country.example}` : "");
  }
  const brand = brandOf(digitsOf(form.number) ?? "", rules);
  tell("number", labels.number, numberFault(form.number, rules));
  tell("expiry", labels.expiry, expiryFault(form.expiry, rules));
  tell("code", labels.code, codeFault(form.code, brand));
  return faults;
}

/** The customer, delivery and card of a form without faults, as FORMAT.md has them. */
export function contentsOf(form, country) {
  const given = (id) => (country.fields.some((field) => field.id === id) ? clean(form[id]) : "");
  return {
    customer: { name: clean(form.name), email: clean(form.email) },
    delivery: {
      lines: [given("line1"), given("line2"), given("district")].filter(Boolean),
      city: given("city") || country.city,
      region: given("region"),
      postcode: given("postcode").toUpperCase(),
      country: form.country,
    },
    card: { number: digitsOf(form.number), ...expiryOf(form.expiry), code: form.code.trim() },
  };
}

/** A card number in its brand's groups, and where the caret then stands. What holds other characters stays as typed. */
export function grouped(typed, caret, rules) {
  const digits = typed.replace(SPACING, "");
  if (!/^[0-9]*$/.test(digits) || digits.length > rules.pan[1]) return { text: typed, caret };
  const before = typed.slice(0, caret).replace(SPACING, "").length;
  let text = "";
  let place = 0;
  let room = 0;
  const groups = [...brandOf(digits, rules).groups];
  [...digits].forEach((digit, at) => {
    if (room === 0 && at > 0) text += " ";
    if (room === 0) room = groups.shift() ?? 4;
    text += digit;
    room -= 1;
    if (at + 1 === before) place = text.length;
  });
  return { text, caret: place };
}
