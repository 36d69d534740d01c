// SPDX-License-Identifier: Apache-2.0
// How these programs talk to the tests: JSON lines, commands on stdin and events on stdout. Byte
// strings are in hexadecimal.

import { createInterface } from 'node:readline';

export function tell(event, details = {}) {
  const line = JSON.stringify({ event, ...details }, function readable(key, value) {
    const original = this[key];     // a Buffer has been turned into an object by its toJSON()
    if (Buffer.isBuffer(original)) return original.toString('hex');
    return typeof value === 'bigint' ? Number(value) : value;
  });
  process.stdout.write(`${line}\n`);
}

// Runs { "do": name, … } by the handler of that name; ends the program when the input ends.
export function obey(handlers, end) {
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => {
    const { do: name, ...details } = JSON.parse(line);
    handlers[name](details);
  });
  lines.on('close', end);
}

export const hex = (digits) => Buffer.from(digits, 'hex');
