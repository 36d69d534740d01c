// SPDX-License-Identifier: Apache-2.0
// A hotspot whose radio is the test: it says which devices there are and what they send.
//
//     node hotspot.js '{"url": URL, "ca": FILE, …}'
//
// Options: `authority` to sign for instead of that of the URL, `agent`, its name and version,
// `connect_ms` it waits for WELCOME, `drop_each`: the connection breaks at the first DATA, and each
// n-th after that, which is lost. Devices are known by their device_id. Commands: see `commands`.

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import WebSocket from 'ws';
import { hex, obey, tell } from './lines.js';
import {
  BadMessage, CloseCode, DEFAULT_CREDITS, MAX_BATCH, SUBPROTOCOL, VERSION, authorityOf, decode,
  encode, makeIdentity, signature, toArrays,
} from './protocol.js';
import { PROTOCOL_ERROR, Session, SessionError } from './session.js';

const options = { agent: 'interop 1', connect_ms: 5000, ...JSON.parse(process.argv[2]) };
const identity = makeIdentity();
const run = randomBytes(8);
const ca = readFileSync(options.ca);
const BACKOFF_MIN_MS = 20, BACKOFF_MAX_MS = 1000;
const LASTING = [4401, 4403, 4409, 4426];   // only a person can mend these
const LONGEST_AFTER_MS = 3600000;
const RESUME_WINDOW_PASSED = 6;

let connection = null;
let backoff = BACKOFF_MIN_MS;
let nData = 0;                  // messages that came
let lastSession = 0;
const sessions = new Map();     // by number

// --- Sightings ---

let lastBatch = 0;
let outstanding = null;         // { batch, sightings } not acknowledged
const unsent = [];              // sightings, with the time they were `made`

function aged({ made, ...sighting }) {
  const ms = Date.now() - made;
  return {
    ...sighting, first_age_ms: sighting.first_age_ms + ms, last_age_ms: sighting.last_age_ms + ms,
  };
}

function sendBatch() {
  if (!connection?.welcomed) return;
  if (!outstanding && unsent.length) {
    lastBatch += 1;
    outstanding = { batch: lastBatch, sightings: unsent.splice(0, MAX_BATCH) };
  } else if (!outstanding || outstanding.connection === connection) {
    return;
  }
  outstanding.connection = connection;
  const { batch, sightings } = outstanding;
  connection.write('SIGHTINGS', { batch, sightings: toArrays(sightings.map(aged)) });
  tell('sent', { batch });
}

// --- Sessions ---

function open(session) {
  if (!connection?.welcomed || connection.goingAway) return;    // it waits for the next WELCOME
  sessions.delete(session.number);
  session.restart(session.opened ? (lastSession += 1) : session.number, connection.credits);
  sessions.set(session.number, session);
  session.opened = true;
  tell('opened', { device_id: session.asked.device_id, session: session.number });
  connection.write('OPEN', { ...session.asked, session: session.number });
  session.start();
}

function endSession(session, details) {
  sessions.delete(session.number);
  clearTimeout(session.window);
  tell('close', { device_id: session.asked.device_id, session: session.number, ...details });
}

// The connection was away for too long.
function windowPassed(session) {
  connection?.expired.add(session.number);
  endSession(session, { code: RESUME_WINDOW_PASSED, by: 'hotspot' });
}

function closeSession(session, code, reason) {
  connection?.write('CLOSE', { session: session.number, code, reason });
  endSession(session, { code, reason, by: 'hotspot' });
}

function guarded(session, action) {
  try {
    action();
  } catch (err) {
    if (!(err instanceof SessionError)) throw err;
    closeSession(session, PROTOCOL_ERROR, err.message);
  }
}

// --- The connection; the methods in capitals take a message ---

class Connection {
  constructor() {
    this.welcomed = false;
    this.expired = new Set();       // numbers of sessions that ended before WELCOME
    this.socket = new WebSocket(options.url, SUBPROTOCOL, {
      ca, minVersion: 'TLSv1.2', maxPayload: 1 << 24, skipUTF8Validation: true,
      perMessageDeflate: false,
    });
    this.deadline = setTimeout(() => this.drop(), options.connect_ms);
    this.socket.on('message', (data, isBinary) => this.onMessage(data, isBinary));
    this.socket.on('pong', () => tell('pong'));
    this.socket.on('error', (err) => tell('error', { error: err.message }));
    this.socket.on('close', (code, reason) => this.onClose(code, reason.toString()));
  }

  write(type, fields) {
    this.socket.send(encode(type, fields));
  }

  close(code, reason) {
    this.detach({ by: 'hotspot', code, reason });
    this.socket.close(code, reason);
  }

  drop() {
    this.detach({ by: 'hotspot', code: null });
    this.socket.terminate();
  }

  // It is over: sessions wait for the next one.
  detach(ended) {
    if (this.ended) return;
    this.ended = ended;
    connection = null;
    clearTimeout(this.deadline);
    clearTimeout(this.leaving);
    for (const session of sessions.values()) {
      session.suspend();
      if (session.opened) {
        session.window ??= setTimeout(() => windowPassed(session), this.resumeMs);
      }
    }
  }

  onClose(code, reason) {
    this.detach({ by: 'cloud', code, reason });
    tell('disconnected', this.ended);
    if (this.ended.by === 'cloud' && LASTING.includes(code)) return;
    setTimeout(connect, this.goingAway ? 0 : backoff * Math.random());
    backoff = Math.min(2 * backoff, BACKOFF_MAX_MS);
  }

  onMessage(data, isBinary) {
    if (this.ended) return;
    try {
      if (!isBinary) throw new BadMessage('a text message');
      const message = decode(data, 'cloud');
      if (message) this.take(message);
    } catch (err) {
      if (!(err instanceof BadMessage)) throw err;
      this.close(CloseCode.BAD_MESSAGE, err.message.slice(0, 100));
    }
  }

  take(message) {
    const expected = this.welcomed ? !['CHALLENGE', 'WELCOME'].includes(message.type)
      : message.type === (this.challenged ? 'WELCOME' : 'CHALLENGE');
    if (!expected) throw new BadMessage(`${message.type} at this point`);
    if (message.session === undefined) {
      this[message.type](message);
      return;
    }
    const session = sessions.get(message.session);
    if (session) guarded(session, () => this[message.type](session, message));
  }

  CHALLENGE({ nonce }) {
    this.challenged = true;
    const listed = [...sessions.values()].filter((session) => session.opened);
    this.write('HELLO', {
      version: VERSION, hotspot_id: identity.id, public_key: identity.publicKey,
      signature: signature(identity, nonce, options.authority ?? authorityOf(options.url)),
      info: { run, agent: options.agent }, resume: toArrays(listed.map((s) => s.listed())),
    });
  }

  WELCOME({ settings, resume }) {
    clearTimeout(this.deadline);
    backoff = BACKOFF_MIN_MS;
    this.welcomed = true;
    this.credits = settings.credits ?? DEFAULT_CREDITS;
    this.resumeMs = settings.resume_ms ?? 0;
    tell('welcome', { settings, n_listed: resume.length });
    const theirs = new Map(resume.map((entry) => [entry.session, entry]));
    for (const session of [...sessions.values()]) {
      clearTimeout(session.window);
      delete session.window;
      this.goOn(session, theirs.get(session.number));
    }
    for (const session of this.expired) {
      if (theirs.has(session)) {
        this.write('CLOSE', { session, code: RESUME_WINDOW_PASSED, reason: 'too late' });
      }
    }
    sendBatch();
  }

  goOn(session, entry) {
    if (session.opened && entry) {
      guarded(session, () => {
        session.resume(entry);
        tell('resumed', { device_id: session.asked.device_id, session: session.number });
        session.start();
      });
    } else if (session.accepted) {
      endSession(session, { reason: 'not listed by the cloud' });
    } else {
      open(session);
    }
  }

  ACCEPT(session) {
    if (!session.accepted) tell('accepted', { session: session.number });
    session.accepted = true;
  }

  DATA(session, message) {
    nData += 1;
    if (options.drop_each && nData % options.drop_each === 1) {
      this.drop();
      return;
    }
    session.onData(message);
    tell('data', { device_id: session.asked.device_id, ...message });
    session.release();
  }

  CREDIT(session, message) {
    session.onCredit(message);
  }

  CLOSE(session, { code, reason }) {
    endSession(session, { code, reason, by: 'cloud' });
  }

  SIGHTINGS_ACK({ batch }) {
    if (batch !== outstanding?.batch) return;
    outstanding = null;
    tell('acknowledged', { batch });
    sendBatch();
  }

  GOAWAY({ after_ms: after }) {
    this.goingAway = true;
    clearTimeout(this.leaving);
    const ms = Math.min(Number(after), LONGEST_AFTER_MS);
    const jitter = Math.random() * (ms / 4 + 500);
    this.leaving = setTimeout(() => this.close(CloseCode.GOING_AWAY, 'as told'), ms + jitter);
    tell('goaway', { after_ms: after });
  }
}

function connect() {
  connection = new Connection();
}

const sessionOf = (id) => [...sessions.values()].find((s) => s.asked.device_id.equals(hex(id)));

const commands = {
  sightings: ({ sightings }) => {
    for (const s of sightings) {
      unsent.push({
        device_id: hex(s.device_id), service_data: hex(s.service_data),
        first_age_ms: s.first_age_ms, last_age_ms: s.last_age_ms, count: s.count,
        rssi_last: s.rssi_last, rssi_min: s.rssi_min, rssi_max: s.rssi_max, state: s.state,
        adapter: s.adapter, made: Date.now(),
      });
    }
    sendBatch();
  },
  open: ({ device_id: id, service_data: data, bearer, max_frame: maxFrame, rssi, channels }) => {
    const session = new Session({
      number: (lastSession += 1), credits: DEFAULT_CREDITS, channels, frames: [1, maxFrame],
      write: (type, fields) => connection.write(type, fields),
    });
    session.asked = {
      device_id: hex(id), service_data: hex(data), bearer, max_frame: maxFrame, rssi, channels,
    };
    sessions.set(session.number, session);
    open(session);
  },
  send: ({ device_id: id, channel, payload }) => sessionOf(id).send(channel, hex(payload)),
  close: ({ device_id: id, code, reason }) => closeSession(sessionOf(id), code, reason),
  stats: ({ counters }) => connection.write('STATS', { counters }),
  ping: () => connection.socket.ping(),
  drop: () => connection.drop(),
  raw: ({ hex: message }) => connection.socket.send(hex(message)),
  text: ({ text }) => connection.socket.send(text),
};

tell('identity', { hotspot_id: identity.id, run });
connect();
obey(commands, () => process.exit());
