// SPDX-License-Identifier: Apache-2.0
// A cloud for one machine: takes sightings, and sends every frame of a device back to it, but empty ones.
//
//     node cloud.js '{"cert": FILE, "key": FILE, "port": N, …}'
//
// Options: `authorities` it is reached by (if not 127.0.0.1 and its port), `settings` of WELCOME,
// `hello_ms` it waits for HELLO, `refuse`, a code that every good HELLO gets.
// `drop_each`: the connection breaks at the first DATA, and each n-th after that, which is lost;
// `lose_ack`: it does where the first batch should be acknowledged.
// Commands: see `commands`.

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { WebSocketServer } from 'ws';
import { hex, obey, tell } from './lines.js';
import {
  BadMessage, CloseCode, DEFAULT_CREDITS, MAX_DEVICE_FRAME, SUBPROTOCOL, VERSION, decode, encode,
  isAuthentic, toArrays,
} from './protocol.js';
import { PROTOCOL_ERROR, Session, SessionError } from './session.js';

const options = {
  port: 0, settings: {}, hello_ms: 10000, ...JSON.parse(process.argv[2]),
};
const hotspots = new Map();     // what is known of each, by hotspot_id in hexadecimal
const connections = new Set();
let nData = 0;                  // messages that came
let withholds = false;

class Connection {
  constructor(socket) {
    this.socket = socket;
    this.hotspot = null;        // from WELCOME on
    this.nonce = randomBytes(32);
    this.deadline = setTimeout(
      () => this.close(CloseCode.NOT_AUTHENTICATED, 'no HELLO in time'), options.hello_ms);
    connections.add(this);
    socket.on('message', (data, isBinary) => this.onMessage(data, isBinary));
    socket.on('pong', () => tell('pong'));
    socket.on('error', () => {});   // the end follows
    socket.on('close', (code, reason) => this.onClose(code, reason.toString()));
    this.write('CHALLENGE', { nonce: this.nonce, server_time_ms: Date.now() });
  }

  write(type, fields) {
    this.socket.send(encode(type, fields));
  }

  // What comes from now on is not looked at.
  close(code, reason) {
    this.ended ??= { by: 'cloud', code, reason };
    this.detach();
    this.socket.close(code, reason);
  }

  // The connection breaks. What is still in its buffers is lost.
  drop() {
    this.ended ??= { by: 'cloud', code: null };
    this.detach();
    this.socket.terminate();
  }

  onClose(code, reason) {
    this.detach();
    connections.delete(this);
    tell('disconnected', this.ended ?? { by: 'hotspot', code, reason });
  }

  // Its sessions wait for the next connection.
  detach() {
    clearTimeout(this.deadline);
    const { hotspot } = this;
    if (hotspot?.connection !== this) return;
    hotspot.connection = null;
    for (const session of hotspot.sessions.values()) session.suspend();
    hotspot.window = setTimeout(
      () => hotspot.endAll('the resume window passed'), options.settings.resume_ms ?? 0);
  }

  onMessage(data, isBinary) {
    if (this.ended) return;
    try {
      if (!isBinary) throw new BadMessage('a text message');
      const message = decode(data, 'hotspot');
      if (message) this.take(message);
    } catch (err) {
      if (!(err instanceof BadMessage)) throw err;
      this.close(CloseCode.BAD_MESSAGE, err.message.slice(0, 100));
    }
  }

  take(message) {
    if (this.hotspot) {
      if (message.type === 'HELLO') throw new BadMessage('a second HELLO');
      this.hotspot[message.type](message);
    } else if (message.type === 'HELLO') {
      this.hello(message);
    } else {
      this.close(CloseCode.NOT_AUTHENTICATED, `${message.type} before HELLO`);
    }
  }

  hello(hello) {
    if (hello.version !== VERSION) {
      this.close(CloseCode.VERSION_NOT_SPOKEN, 'another version');
    } else if (!isAuthentic(hello, this.nonce, options.authorities)) {
      this.close(CloseCode.NOT_AUTHENTICATED, 'a bad id or signature');
    } else if (options.refuse) {
      this.close(options.refuse, 'as told');
    } else {
      clearTimeout(this.deadline);
      tell('hello', { hotspot_id: hello.hotspot_id, ...hello.info, n_listed: hello.resume.length });
      const id = hello.hotspot_id.toString('hex');
      const hotspot = hotspots.get(id) ?? new Hotspot();
      hotspots.set(id, hotspot);
      hotspot.welcome(this, hello);
    }
  }
}

// Outlasts its connections. The methods in capitals take a message.
class Hotspot {
  constructor() {
    this.connection = null;
    this.run = null;
    this.lastBatch = 0;
    this.sessions = new Map();
  }

  welcome(connection, hello) {
    this.connection?.close(CloseCode.REPLACED, 'a newer connection');
    clearTimeout(this.window);
    this.connection = connection;
    connection.hotspot = this;
    if (!this.run?.equals(hello.info.run)) {
      this.endAll('another run');
      this.run = hello.info.run;
      this.lastBatch = 0;
    }
    const listed = new Map(hello.resume.map((entry) => [entry.session, entry]));
    for (const session of this.sessions.values()) {
      if (!listed.has(session.number)) this.end(session, 'not listed by the hotspot');
    }
    const goingOn = [...this.sessions.values()];
    connection.write('WELCOME', {
      settings: options.settings, resume: toArrays(goingOn.map((session) => session.listed())),
    });
    for (const session of goingOn) {
      this.guarded(session, () => {
        session.resume(listed.get(session.number));
        tell('resumed', { session: session.number });
        session.start();
      });
    }
  }

  write(type, fields) {
    this.connection?.write(type, fields);
  }

  // The session is over if this breaks a rule of it.
  guarded(session, action) {
    try {
      action();
    } catch (err) {
      if (!(err instanceof SessionError)) throw err;
      this.closeSession(session, PROTOCOL_ERROR, err.message);
    }
  }

  closeSession(session, code, reason) {
    this.write('CLOSE', { session: session.number, code, reason });
    this.end(session, reason, { code, by: 'cloud' });
  }

  end(session, reason, details = {}) {
    this.sessions.delete(session.number);
    tell('close', { session: session.number, reason, ...details });
  }

  endAll(reason) {
    for (const session of this.sessions.values()) this.end(session, reason);
  }

  SIGHTINGS({ batch, sightings }) {
    const isNew = batch > this.lastBatch;
    if (isNew) this.lastBatch = batch;
    tell('sightings', { batch, is_new: isNew, sightings });
    if (isNew && options.lose_ack) {
      options.lose_ack = false;
      this.connection.drop();
    } else {
      this.write('SIGHTINGS_ACK', { batch });
    }
  }

  OPEN({ session: number, ...opened }) {
    if (this.sessions.has(number)) {
      this.closeSession(this.sessions.get(number), PROTOCOL_ERROR, 'opened twice');
      return;
    }
    const session = new Session({
      number, credits: options.settings.credits ?? DEFAULT_CREDITS, channels: opened.channels,
      frames: [0, MAX_DEVICE_FRAME], write: (type, fields) => this.write(type, fields),
    });
    Object.assign(session, opened, { withholds });
    this.sessions.set(number, session);
    tell('open', { session: number, ...opened });
    this.write('ACCEPT', { session: number });
    session.start();
  }

  DATA(message) {
    nData += 1;
    if (options.drop_each && nData % options.drop_each === 1) {
      this.connection.drop();
      return;
    }
    const session = this.sessions.get(message.session);
    if (!session) return;
    this.guarded(session, () => {
      session.onData(message);
      tell('data', message);
      // An empty one the device may send, and not get.
      if (message.payload.length) session.send(message.channel, message.payload);
      session.release();
    });
  }

  CREDIT(message) {
    const session = this.sessions.get(message.session);
    if (session) this.guarded(session, () => session.onCredit(message));
  }

  CLOSE({ session: number, code, reason }) {
    const session = this.sessions.get(number);
    if (session) this.end(session, reason, { code, by: 'hotspot' });
  }

  STATS({ counters }) {
    tell('stats', { counters });
  }
}

const allSessions = () => [...hotspots.values()].flatMap((h) => [...h.sessions.values()]);
const allWelcomed = () => [...connections].filter((connection) => connection.hotspot?.connection);

const commands = {
  goaway: ({ after_ms: after }) => {
    for (const c of allWelcomed()) c.write('GOAWAY', { after_ms: after, reason: 'as told' });
  },
  ping: () => connections.forEach((c) => c.socket.ping()),
  drop: () => connections.forEach((c) => c.drop()),
  raw: ({ hex: message }) => connections.forEach((c) => c.socket.send(hex(message))),
  text: ({ text }) => connections.forEach((c) => c.socket.send(text)),
  send: ({ session: number, channel, payload }) => {
    for (const s of allSessions()) if (s.number === number) s.send(channel, hex(payload));
  },
  close_session: ({ session: number, code }) => {
    for (const hotspot of hotspots.values()) {
      const session = hotspot.sessions.get(number);
      if (session) hotspot.closeSession(session, code, 'as told');
    }
  },
  withhold: ({ on }) => {
    withholds = on;
    for (const session of allSessions()) {
      session.withholds = on;
      session.grant();
    }
  },
};

const https = createServer({
  cert: readFileSync(options.cert), key: readFileSync(options.key), minVersion: 'TLSv1.2',
});
const offers = ({ headers }) =>
  (headers['sec-websocket-protocol'] ?? '').split(',').some((p) => p.trim() === SUBPROTOCOL);
const server = new WebSocketServer({
  server: https,
  // Larger than a message may be, and of any text: what is wrong gets the protocol's own code.
  maxPayload: 1 << 24,
  skipUTF8Validation: true,
  perMessageDeflate: false,
  verifyClient: ({ req }, answer) => answer(offers(req), 400),
  handleProtocols: (offered) => offered.has(SUBPROTOCOL) && SUBPROTOCOL,
});
server.on('connection', (socket) => new Connection(socket));
https.listen(options.port, '127.0.0.1', () => {
  const { port } = https.address();
  options.authorities ??= [`127.0.0.1:${port}`];
  tell('listening', { port });
});
obey(commands, () => process.exit());
