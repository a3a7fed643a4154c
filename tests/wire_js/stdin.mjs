// JSON on standard input to JSON on standard output: one question or a list of them, answered in order.
// Why here: the programs are asked many things by one start of Node.
// Must not: hide a defect of ours as a refusal: only Refused is an answer.

import { readFileSync } from "node:fs";
import { Refused } from "./primitives.mjs";

export function answer(judge) {
  const asked = JSON.parse(readFileSync(0, "utf8"));
  const one = (question) => {
    try {
      return { ok: true, ...judge(question) };
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      return { ok: false, rule: error.rule, message: error.message };
    }
  };
  process.stdout.write(JSON.stringify(Array.isArray(asked) ? asked.map(one) : one(asked)) + "\n");
}
