// SPDX-License-Identifier: Apache-2.0
// The messages of uplink/PROTOCOL.md as objects, and the identity of a hotspot.

import { Encoder } from 'cbor-x';
import {
  createHash, createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify,
} from 'node:crypto';

export const SUBPROTOCOL = 'hotspot-relay.v1';
export const VERSION = 1;
export const MAX_MESSAGE = 65536;
export const MAX_BATCH = 100;
export const MAX_DEVICE_FRAME = 512;
export const DEFAULT_CREDITS = 16;
export const UINT32_MAX = 0xffffffff;

export const CloseCode = {
  GOING_AWAY: 1001,
  BAD_MESSAGE: 4400,
  NOT_AUTHENTICATED: 4401,
  REPLACED: 4409,
  VERSION_NOT_SPOKEN: 4426,
};

export class BadMessage extends Error {}

// --- Well-formed CBOR, in the forms that are allowed ---

const UNSIGNED = 0, BYTES = 2, TEXT = 3, ARRAY = 4, MAP = 5, TAG = 6, SIMPLE = 7;
const SMALLEST = { 24: 24n, 25: 0x100n, 26: 0x10000n, 27: 0x100000000n };   // of each length
const UNDEFINED = Buffer.from('f7', 'hex');
// Message, list, element of a list: what lies deeper is of a later version, and ignored, however deep.
const MAX_DEPTH = 3;
const utf8 = new TextDecoder('utf-8', { fatal: true });

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  take(length) {
    if (length > this.bytes.length - this.at) throw new BadMessage('it is cut off');
    this.at += Number(length);
    return this.bytes.subarray(this.at - Number(length), this.at);
  }

  // The major type of the next item and what its head says.
  head() {
    const [first] = this.take(1);
    const major = first >> 5, info = first & 31;
    if (info < 24) return { major, argument: BigInt(info) };
    if (info === 31) throw new BadMessage('an indefinite length');
    if (info > 27) throw new BadMessage('a reserved length');
    const argument = BigInt(`0x${this.take(1 << (info - 24)).toString('hex')}`);
    // The forms of SIMPLE are simple values of one byte, of two, and floats of three lengths.
    const least = major !== SIMPLE ? SMALLEST[info] : info === 24 ? 32n : 0n;
    if (argument < least) throw new BadMessage('not the shortest form');
    return { major, argument };
  }
}

// Checks that bytes are one well-formed item, and returns it without what no field may be, which
// becomes `undefined`: cbor-x would give tags a meaning, and it neither minds the forms that are
// not allowed nor bounds how deep it descends.
function checked(bytes) {
  const reader = new Reader(bytes);
  const toCome = [1n];      // items, at each level
  const parts = [];
  let kept = 0;             // all before is in parts
  let cut = null;           // { start, depth } of what is being left out
  while (toCome.length) {
    if (toCome.at(-1) === 0n) {
      toCome.pop();
      if (cut?.depth === toCome.length) {
        parts.push(bytes.subarray(kept, cut.start), UNDEFINED);
        kept = reader.at;
        cut = null;
      }
      continue;
    }
    toCome[toCome.length - 1] -= 1n;
    const start = reader.at, depth = toCome.length;
    const { major, argument } = reader.head();
    if (major === BYTES) reader.take(argument);
    if (major === TEXT) checkText(reader.take(argument));
    const items = { [ARRAY]: argument, [MAP]: 2n * argument, [TAG]: 1n, [SIMPLE]: 0n }[major];
    if (items === undefined) continue;
    if (items > bytes.length - reader.at) throw new BadMessage('it is cut off');
    toCome.push(items);
    if (major >= TAG || depth > MAX_DEPTH) cut ??= { start, depth };
  }
  if (reader.at !== bytes.length) throw new BadMessage('bytes after the item');
  return Buffer.concat([...parts, bytes.subarray(kept)]);
}

function checkText(bytes) {
  try {
    utf8.decode(bytes);
  } catch {
    throw new BadMessage('a text that is not UTF-8');
  }
}

// --- Types of fields: each returns the value, without what is not known of it ---

function integer(min, max) {
  return (value) => {
    const isInteger = typeof value === 'bigint' || Number.isSafeInteger(value);
    if (!isInteger || value < min || value > max) {
      throw new BadMessage(`${typeof value} ${value} instead of an integer of ${min} to ${max}`);
    }
    return value;
  };
}

function bytes(length) {
  return (value) => {
    if (!(value instanceof Uint8Array) || value.length !== (length ?? value.length)) {
      throw new BadMessage(`not a byte string${length === undefined ? '' : ` of ${length}`}`);
    }
    return Buffer.from(value);
  };
}

function text(value) {
  if (typeof value !== 'string') throw new BadMessage('not a text string');
  return value;
}

// An array of named elements.
function record(fields, then = () => {}) {
  const entries = Object.entries(fields);
  return (value) => {
    if (!Array.isArray(value) || value.length < entries.length) {
      throw new BadMessage(`not an array of ${entries.length}`);
    }
    const result = Object.fromEntries(
      entries.map(([name, type], i) => [name, named(name, type, value[i])]));
    then(result);
    return result;
  };
}

function list(type, min = 0, max = Infinity) {
  return (value) => {
    if (!Array.isArray(value) || value.length < min || value.length > max) {
      throw new BadMessage(`not ${min} to ${max} items`);
    }
    return value.map(type);
  };
}

// A map of known keys, all of them optional but those required; `others` is the type of the rest.
function map(keys, required = [], others = undefined) {
  return (value) => {
    if (!(value instanceof Map)) throw new BadMessage('not a map');
    const result = {};
    for (const [key, item] of value) {
      const type = Object.hasOwn(keys, text(key)) ? keys[key] : others;
      if (type) result[key] = named(key, type, item);
    }
    for (const key of required) if (!(key in result)) throw new BadMessage(`no ${key}`);
    return result;
  };
}

function named(name, type, value) {
  try {
    return type(value);
  } catch (err) {
    throw err instanceof BadMessage ? new BadMessage(`${name}: ${err.message}`) : err;
  }
}

const uint = integer(0n, 2n ** 64n - 1n);
const uint32 = integer(0, UINT32_MAX);
const int = integer(-128, 127);
const NO_RSSI = 127;
const LOST = 2;

const sighting = record({
  device_id: bytes(16), service_data: bytes(), first_age_ms: uint, last_age_ms: uint, count: uint,
  rssi_last: int, rssi_min: int, rssi_max: int, state: integer(0, 2), adapter: uint,
}, (s) => {
  const rssi = [s.rssi_min, s.rssi_last, s.rssi_max];
  if (s.first_age_ms < s.last_age_ms) throw new BadMessage('the first advert after the last');
  if (s.count == 0 && s.state !== LOST) throw new BadMessage('a sighting of no advert');
  if (rssi.includes(NO_RSSI) && rssi.some((r) => r !== NO_RSSI)) throw new BadMessage('some RSSI');
  if (rssi[0] > rssi[1] || rssi[1] > rssi[2]) throw new BadMessage('RSSI out of order');
});
const resume = list(record({ session: uint32, next_seq: uint, credits: uint32 }));
const info = map({ run: bytes(8), agent: text }, ['run']);
const settings = map({
  report_ms: uint, resume_ms: uint, credits: integer(1, 64), hotspot_name: text,
});

// --- Messages ---

const CLOUD = ['cloud'], HOTSPOT = ['hotspot'], BOTH = ['cloud', 'hotspot'];
const MESSAGES = {
  CHALLENGE: [1, CLOUD, { nonce: bytes(32), server_time_ms: uint }],
  HELLO: [2, HOTSPOT, {
    version: uint, hotspot_id: bytes(16), public_key: bytes(65), signature: bytes(64), info, resume,
  }],
  WELCOME: [3, CLOUD, { settings, resume }],
  SIGHTINGS: [10, HOTSPOT, {
    batch: integer(1n, 2n ** 64n - 1n), sightings: list(sighting, 1, MAX_BATCH),
  }],
  SIGHTINGS_ACK: [11, CLOUD, { batch: uint }],
  OPEN: [20, HOTSPOT, {
    session: uint32, device_id: bytes(16), service_data: bytes(), bearer: integer(0, 1),
    max_frame: integer(20, 512), rssi: int, channels: integer(1, 2),
  }],
  ACCEPT: [21, CLOUD, { session: uint32 }],
  DATA: [22, BOTH, { session: uint32, channel: uint32, seq: uint, payload: bytes() }],
  CREDIT: [23, BOTH, { session: uint32, credits: uint32, next_seq: uint }],
  CLOSE: [24, BOTH, { session: uint32, code: uint32, reason: text }],
  STATS: [30, HOTSPOT, { counters: map({}, [], uint) }],
  GOAWAY: [31, CLOUD, { after_ms: uint, reason: text }],
};
const BY_CODE = new Map(Object.entries(MESSAGES).map(([name, [code, from, fields]]) =>
  [code, { name, from, read: record({ type: uint, ...fields }) }]));

const cbor = new Encoder({
  useRecords: false,        // else an object becomes a tag of cbor-x's own
  mapsAsObjects: false,
  tagUint8Array: false,
  copyBuffers: true,
});

// What `from` has sent: { type: 'DATA', session: 1, … }, or null where it is to be ignored.
export function decode(message, from) {
  if (message.length > MAX_MESSAGE) throw new BadMessage('it is too long');
  const value = cbor.decode(checked(message));
  if (!Array.isArray(value)) throw new BadMessage('not an array');
  const known = BY_CODE.get(uint(value[0]));
  if (!known?.from.includes(from)) return null;
  // A later version may have other fields.
  if (known.name === 'HELLO' && value.length > 1 && uint(value[1]) !== VERSION) {
    return { type: 'HELLO', version: value[1] };
  }
  return named(known.name, (v) => ({ ...known.read(v), type: known.name }), value);
}

export function encode(type, fields) {
  const [code, [from], shape] = MESSAGES[type];
  const message = cbor.encode(
    [code, ...Object.keys(shape).map((name) => plain(fields[name]))]);
  decode(message, from);    // also sees that cbor-x has chosen the right forms
  return message;
}

// As cbor-x writes it in the shortest form: it takes numbers from 2^32 on for floats, and writes
// each BigInt with 8 bytes.
function plain(value) {
  if (typeof value === 'number' && Math.abs(value) > UINT32_MAX) return BigInt(value);
  if (typeof value === 'bigint' && value <= UINT32_MAX) return Number(value);
  if (Array.isArray(value)) return value.map(plain);
  if (value === undefined || typeof value !== 'object' || Buffer.isBuffer(value)) return value;
  return new Map(Object.entries(value).map(([key, item]) => [key, plain(item)]));
}

// Lists hold records; on the wire these are arrays of their values.
export const toArrays = (records) => records.map(Object.values);

// --- Identity ---

export function hotspotId(publicKey) {
  const id = createHash('sha256').update(publicKey).digest().subarray(0, 16);
  id[6] = (id[6] & 0x0f) | 0x80;
  id[8] = (id[8] & 0x3f) | 0x80;
  return id;
}

// A new key pair, or that of a PEM text.
export function makeIdentity(pem = undefined) {
  const privateKey = pem ? createPrivateKey(pem)
    : generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  const { x, y } = createPublicKey(privateKey).export({ format: 'jwk' });
  const publicKey = Buffer.concat(
    [Buffer.from([4]), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
  return { privateKey, publicKey, id: hotspotId(publicKey) };
}

const signed = (nonce, id, authority) =>
  Buffer.concat([Buffer.from(`${SUBPROTOCOL}\0`), nonce, id, Buffer.from(authority)]);

export function signature(identity, nonce, authority) {
  return sign('sha256', signed(nonce, identity.id, authority),
    { key: identity.privateKey, dsaEncoding: 'ieee-p1363' });
}

// Whether a HELLO comes from who it says, and was made for one of these authorities.
export function isAuthentic(hello, nonce, authorities) {
  const point = hello.public_key;
  if (point[0] !== 4 || !hotspotId(point).equals(hello.hotspot_id)) return false;
  let key;
  try {
    key = createPublicKey({
      format: 'jwk',
      key: {
        kty: 'EC', crv: 'P-256', x: point.toString('base64url', 1, 33),
        y: point.toString('base64url', 33),
      },
    });
  } catch {
    return false;           // not on the curve
  }
  return authorities.some((authority) => verify(
    'sha256', signed(nonce, hello.hotspot_id, authority), { key, dsaEncoding: 'ieee-p1363' },
    hello.signature));
}

// host:port as the URL has it: URL.host would change its letters and drop the port 443.
export function authorityOf(url) {
  const [, host, port] = /^wss:\/\/(\[[^\]]*\]|[^:/?#]*)(?::(\d+))?/.exec(url);
  return `${host}:${port ?? 443}`;
}
