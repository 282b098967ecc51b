// What the suites in JavaScript share: calls are counted, waited for, and refused as they must be.

import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";

export const SOON = 60_000;
let n = 0;

// One call more, and its answer.
export const call = (what, got, want = true) => {
  n += 1;
  assert.deepEqual(got, want, what);
};

// Waits for a value.
export const until = async (what, look, want = true) => {
  const ends = Date.now() + SOON;
  for (;;) {
    const got = await look();
    if (JSON.stringify(got) === JSON.stringify(want)) return call(what, got, want);
    assert.ok(Date.now() < ends, `${what}: ${JSON.stringify(got)}, not ${JSON.stringify(want)}`);
    await pause(50);
  }
};

// Who comes between with a status is no reason to give up: what was read is read and written again, as clients do.
export const rewrite = async (read, write) => {
  const ends = Date.now() + SOON;
  for (;;) {
    try {
      return await write(await read());
    } catch (err) {
      if ((err.statusCode ?? err.code) !== 409 || Date.now() >= ends) throw err;
    }
  }
};

// The error of a call that must be refused.
export const errorOf = (what, act) => act().then(() => assert.fail(`${what}: it was not refused`), (err) => err);

// How many distinct calls there were.
export const count = () => n;
