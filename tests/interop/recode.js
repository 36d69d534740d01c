// SPDX-License-Identifier: Apache-2.0
// Reads messages from stdin and says how protocol.js understands and writes them.

import { hex, obey, tell } from './lines.js';
import { decode, encode, toArrays } from './protocol.js';

const commands = {
  recode: ({ from, hex: message }) => {
    try {
      const decoded = decode(hex(message), from);
      const { type, ...fields } = decoded ?? {};
      for (const list of ['resume', 'sightings']) {
        if (fields[list]) fields[list] = toArrays(fields[list]);
      }
      tell('recoded', { type, fields, hex: type && encode(type, fields) });
    } catch (err) {
      tell('bad', { error: err.message });
    }
  },
};

obey(commands, () => process.exit());
