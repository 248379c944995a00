// How the Node drivers are talked to: see lines.py.
'use strict';
const { createRequire } = require('node:module');
const readline = require('node:readline');

/** `require` as if from beside the installed libraries. */
exports.installed = createRequire(`${process.env.PORTCULLIS_TEST_CLIENT_MODULES}/`);

// Libraries that print must not disturb the answers.
console.log = console.info = console.debug = console.error;

exports.serve = async (steps, describe) => {
  let failed;
  const reply = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);
  const tell = (error) => ({
    error: { type: error?.constructor?.name, message: error?.message, ...describe(error) },
  });
  // An error that a library throws where nobody can catch it belongs to the step under way.
  const stray = (error) => (failed ? failed(error) : reply(tell(error)));
  process.on('uncaughtException', stray);
  process.on('unhandledRejection', stray);
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { do: name, args = [] } = JSON.parse(line);
    const loss = new Promise((_, reject) => (failed = reject));
    try {
      const ok = await Promise.race([Promise.resolve(steps[name](...args)), loss]);
      reply({ ok: ok ?? null });
    } catch (error) {
      reply(tell(error));
    }
    failed = undefined;
  }
  process.exit(0);
};
