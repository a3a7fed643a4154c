// node ask.mjs: runs the modules of the pages' scripts outside a page. A list of questions in, a list of answers out.
// Why here: rules, seals and the course of an order are compared with the server's by the hundred, without a browser.
// Must not: hold a rule of its own; it only calls.

import { build } from "esbuild";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const source = resolve(here, "../../intake/page/source");
const names = ["bytes", "envelope", "judging", "keys", "sending"];
const bundled = await build({
  stdin: { contents: names.map((name) => `export * as ${name} from "./${name}.js";`).join("\n"), resolveDir: source },
  nodePaths: [join(here, "node_modules")],
  bundle: true,
  format: "esm",
  platform: "node",
  write: false,
});
globalThis.self ??= globalThis; // as in a page, where tweetnacl finds its random numbers
const folder = mkdtempSync(join(tmpdir(), "page-scripts-"));
writeFileSync(join(folder, "scripts.mjs"), bundled.outputFiles[0].contents);
const { bytes, envelope, judging, keys, sending } = await import(pathToFileURL(join(folder, "scripts.mjs")));
rmSync(folder, { recursive: true });

const ASKED = {
  key: () => bytes.newKey(),
  names: ({ key }) => {
    const { id, nonce } = envelope.namesOf(key);
    return { id: bytes.hex(id), nonce: bytes.hex(nonce) };
  },
  basket: ({ nonce, items, total }) =>
    bytes.hex(envelope.basketDigest(bytes.fromHex(nonce, 32), items, total)),
  entry: ({ entry, order, ...known }) => {
    const document = { node: known.node, order_key: order ?? entry, batch_key: entry };
    try {
      keys.checkedKeys(document, known);
      return "ok";
    } catch (error) {
      return error.rule ?? "malformed";
    }
  },
  seal: ({ key, order, card, order_key: orderKey, batch_key: batchKey, time }) =>
    envelope.sealOrder(
      key,
      order,
      card,
      { order: bytes.fromHex(orderKey, 32), batch: bytes.fromHex(batchKey, 32) },
      time,
    ),
  number: ({ typed, rules }) => judging.numberFault(typed, rules),
  brand: ({ digits, rules }) => judging.brandOf(digits, rules).name,
  expiry: ({ typed, rules }) => judging.expiryFault(typed, rules),
  code: ({ typed, digits, rules }) => judging.codeFault(typed, judging.brandOf(digits, rules)),
  text: ({ typed, limit }) => judging.textFault(typed, limit, true),
  judge: ({ form, country, rules }) => judging.judge(form, country, rules),
  digits: ({ typed }) => judging.plainDigits(typed),
  contents: ({ form, country }) => judging.contentsOf(form, country),
  postcode: ({ typed, country }) => judging.postcodeFits(typed, country),
  grouped: ({ typed, caret, rules }) => judging.grouped(typed, caret, rules),
  place: async ({ answers, unanswered, probe }) => {
    const posted = [];
    let sealed = 0;
    const next = () => (answers.length ? answers.shift() : null);
    const outcome = await sending.place({
      unanswered,
      probe,
      seal: () => `text ${++sealed}`,
      net: {
        wait: async () => {},
        keys: async () => ({ status: 200, document: {}, now: 0 }),
        post: async (text) => {
          const answer = next();
          posted.push([text, answer]);
          return answer;
        },
      },
    });
    return { outcome, posted };
  },
};

const answers = [];
for (const { ask, ...rest } of JSON.parse(readFileSync(0, "utf8"))) answers.push(await ASKED[ask](rest));
process.stdout.write(JSON.stringify(answers));
