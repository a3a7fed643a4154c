// An acquirer's host on an ISO 8583 codec that is not ours: reads each message with npm's iso_8583, answers with it,
// and writes on standard output, one JSON object a line, every field that it read and every field that it sent.
//
// Usage: node host.mjs FORMATS.json   (FORMATS: the fields of the profile, in the library's own words)
// It prints {"port": N} first, listens on loopback, and ends when standard input does.

import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { codeOf, isAuthentic, lastOf } from './mac.mjs';

const Iso8583 = createRequire(import.meta.url)('iso_8583');
const { formats, simulatorField, simulatorText, echoed, silentOnce, mac } = JSON.parse(readFileSync(process.argv[2], 'utf8'));

const ANSWER = { '0100': '0110', '0220': '0230', '0221': '0230', '0420': '0430', '0421': '0430', '0500': '0510', '0800': '0810' };
// The first authorisation of this amount is booked and never answered.
let silent = silentOnce;
const approvals = new Map();
const totals = new Map();

function say(entry) {
  process.stdout.write(JSON.stringify(entry) + '\n');
}

function sum(currency) {
  if (!totals.has(currency)) totals.set(currency, { captures: 0, captured: 0, refunds: 0, refunded: 0 });
  return totals.get(currency);
}

function decide(fields) {
  const code = { '39': '00' };
  switch (fields['0']) {
    case '0800':
      return simulatorField ? { ...code, [simulatorField]: simulatorText } : code;
    case '0100': {
      const approval = fields['11'];
      approvals.set(fields['37'], { amount: Number(fields['4']), approval, captured: 0, refunded: 0, live: true });
      return { ...code, '38': approval };
    }
    case '0220':
    case '0221': {
      const found = approvals.get(fields['37']);
      const amount = Number(fields['4']);
      if (!found || !found.live) return { '39': '25' };
      if (fields['3'].startsWith('20')) {
        if (amount > found.captured - found.refunded) return { '39': '13' };
        found.refunded += amount;
        sum(fields['49']).refunds += 1;
        sum(fields['49']).refunded += amount;
      } else {
        if (amount > found.amount - found.captured) return { '39': '13' };
        found.captured += amount;
        sum(fields['49']).captures += 1;
        sum(fields['49']).captured += amount;
      }
      return { ...code, '38': found.approval };
    }
    case '0420':
    case '0421': {
      const found = approvals.get(fields['37']);
      if (found) found.live = false;
      return found ? code : { '39': '25' };
    }
    case '0500': {
      const ours = sum(fields['50'] ?? fields['49']);
      const theirs = {
        captures: Number(fields['76'] ?? 0), captured: Number(fields['88'] ?? 0),
        refunds: Number(fields['74'] ?? 0), refunded: Number(fields['86'] ?? 0),
      };
      const same = Object.keys(ours).every((name) => ours[name] === theirs[name]);
      return { '39': same ? '00' : '95' };
    }
    default:
      return { '39': '12' };
  }
}

// What is packed with zeros in the code's place, with the code.
function authenticated(packed) {
  if (mac) codeOf(mac, packed.subarray(0, -8)).copy(packed, packed.length - 8);
  return packed;
}

function answer(body) {
  if (mac && !isAuthentic(mac, body)) throw new Error('a message has not the MAC of our key');
  const fields = new Iso8583({}, formats).getIsoJSON(body, { lenHeader: false });
  if (mac) delete fields[lastOf(body, 4)];
  const sent = { '0': ANSWER[fields['0']] ?? '0110' };
  for (const number of echoed) if (number in fields) sent[number] = fields[number];
  Object.assign(sent, decide(fields));
  const last = Object.keys(sent).some((number) => Number(number) > 64) ? '128' : '64';
  const packed = new Iso8583(mac ? { ...sent, [last]: '0'.repeat(16) } : sent, formats).getBufferMessage();
  if (!Buffer.isBuffer(packed)) throw new Error(`cannot pack: ${JSON.stringify(packed)}`);
  if (silent && fields['0'] === '0100' && fields['4'] === silent) {
    silent = null;
    say({ read: fields, sent: {} });
    return Buffer.alloc(0);
  }
  say({ read: fields, sent });
  return Buffer.concat([packed.subarray(0, 2), authenticated(packed.subarray(2))]);
}

const server = net.createServer((socket) => {
  let received = Buffer.alloc(0);
  socket.on('data', (part) => {
    received = Buffer.concat([received, part]);
    while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
      const size = 2 + received.readUInt16BE(0);
      const frame = received.subarray(2, size);
      received = received.subarray(size);
      try {
        socket.write(answer(frame));
      } catch (error) {
        say({ error: String(error && error.message ? error.message : error) });
        socket.destroy();
      }
    }
  });
  socket.on('error', () => {});
});

server.listen(0, '127.0.0.1', () => say({ port: server.address().port }));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
