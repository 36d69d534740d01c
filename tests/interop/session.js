// SPDX-License-Identifier: Apache-2.0
// One side of a session: its frames, its credits, and what is kept for the case that the connection
// drops. The same on both sides.

import { UINT32_MAX } from './protocol.js';

export const PROTOCOL_ERROR = 8;

export class SessionError extends Error {}

export class Session {
  // credits: initial ones, of each side. frames: bytes of the shortest and the longest one from the
  // other side. write(type, fields) sends a message.
  constructor({ number, credits, channels, frames, write }) {
    Object.assign(this, { channels, frames, write });
    this.mayWrite = false;      // there is a connection, and the other side knows the session
    this.withholds = false;     // grants no credits
    this.waiting = [];          // { channel, payload } towards the other side
    this.sent = [];             // those it may not have, the last of them nextOut - 1
    this.restart(number, credits);
  }

  // As if nothing had been sent.
  restart(number, credits) {
    this.number = number;
    this.accepted = false;
    this.waiting.unshift(...this.sent.splice(0));
    this.nextOut = 0;
    this.creditsOut = credits;
    this.nextIn = 0;
    this.creditsIn = credits;   // that the other side has
    this.grantFrom = Math.max(1, Math.floor(credits / 2));
    this.handedOn = 0;          // frames of the other side, since credits were granted
  }

  send(channel, payload) {
    this.waiting.push({ channel, payload });
    this.pump();
  }

  // Writes what it may.
  pump() {
    while (this.mayWrite && this.creditsOut > 0 && this.waiting.length) {
      const frame = this.waiting.shift();
      this.sent.push(frame);
      this.creditsOut -= 1;
      this.write('DATA', { session: this.number, seq: this.nextOut, ...frame });
      this.nextOut += 1;
    }
  }

  // DATA has come. Who has handed on the frame calls release().
  onData({ channel, seq, payload }) {
    const [shortest, longest] = this.frames;
    if (this.creditsIn === 0) throw new SessionError('DATA without credit');
    if (seq !== this.nextIn) throw new SessionError(`seq ${seq} instead of ${this.nextIn}`);
    if (channel >= this.channels) throw new SessionError(`channel ${channel} is not open`);
    if (payload.length < shortest || payload.length > longest) {
      throw new SessionError(`a frame of ${payload.length} bytes`);
    }
    this.creditsIn -= 1;
    this.nextIn += 1;
  }

  release() {
    this.handedOn += 1;
    this.grant();
  }

  grant() {
    if (!this.mayWrite || this.withholds || this.handedOn < this.grantFrom) return;
    this.creditsIn += this.handedOn;
    this.write('CREDIT', {
      session: this.number, credits: this.handedOn, next_seq: this.nextIn,
    });
    this.handedOn = 0;
  }

  onCredit({ credits, next_seq: nextSeq }) {
    this.forget(nextSeq);
    if (this.creditsOut + credits > UINT32_MAX) throw new SessionError('too many credits');
    this.creditsOut += credits;
    this.pump();
  }

  // The other side has all below nextSeq.
  forget(nextSeq) {
    const oldest = this.nextOut - this.sent.length;
    if (nextSeq < oldest || nextSeq > this.nextOut) {
      throw new SessionError(`next_seq ${nextSeq} of ${oldest} to ${this.nextOut}`);
    }
    this.sent.splice(0, Number(nextSeq) - oldest);
  }

  // --- After a dropped connection ---

  suspend() {
    this.mayWrite = false;
  }

  // For HELLO and WELCOME.
  listed() {
    return { session: this.number, next_seq: this.nextIn, credits: this.creditsIn };
  }

  // Both sides have listed it: this is what the other side says.
  resume({ next_seq: nextSeq, credits }) {
    this.forget(nextSeq);
    this.nextOut -= this.sent.length;
    this.waiting.unshift(...this.sent.splice(0));
    this.creditsOut = credits;
    this.accepted = true;
  }

  // From WELCOME, ACCEPT or OPEN on.
  start() {
    this.mayWrite = true;
    this.grant();
    this.pump();
  }
}
