// node build.mjs [FOLDER]: bundles the pages' scripts from intake/page/source into intake/page/static (or FOLDER).
// Why here: what is shipped is committed, and a test makes it again and compares every byte.
// Must not: need the network, or depend on where the checkout lies.

import { build } from "esbuild";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, "../..");
const page = join(root, "intake", "page");

await build({
  absWorkingDir: root,
  entryPoints: ["checkout.js", "recent.js", "status.js"].map((name) => join(page, "source", name)),
  outdir: resolve(process.argv[2] ?? join(page, "static")),
  nodePaths: [join(here, "node_modules")],
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome111", "firefox115", "safari16.4"],
  charset: "ascii",
  legalComments: "none",
  banner: { js: "// Built from intake/page/source by tests/browser/build.mjs; not to be edited." },
  logLevel: "warning",
});
