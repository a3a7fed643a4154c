// Message authentication codes by Node's own ciphers and nothing of ours: CMAC (NIST SP 800-38B) and the retail MAC
// (ANSI X9.19), each cut to eight bytes, and where they stand in a message.
//
// Usage: node mac.mjs FRAMES.json   ([{algorithm, key, header, frame}]; header in bytes, the rest hexadecimal; a frame has
// its two bytes of length). Prints how many frames end in their code and how many do not: {"right": N, "wrong": [places]}.

import { createCipheriv } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const SIZE = 8;

function encrypted(cipher, key, data, start = null) {
  const working = createCipheriv(cipher, key, start);
  working.setAutoPadding(false);
  return Buffer.concat([working.update(data), working.final()]);
}

function doubled(block) {
  const out = Buffer.alloc(16);
  for (let place = 0; place < 16; place += 1) {
    out[place] = ((block[place] << 1) | (place < 15 ? block[place + 1] >> 7 : 0)) & 0xff;
  }
  if (block[0] & 0x80) out[15] ^= 0x87;
  return out;
}

export function cmac(key, data) {
  const aes = `aes-${key.length * 8}`;
  const first = doubled(encrypted(`${aes}-ecb`, key, Buffer.alloc(16)));
  const blocks = Math.max(1, Math.ceil(data.length / 16));
  const padded = Buffer.alloc(blocks * 16);
  data.copy(padded);
  const whole = data.length === padded.length;
  if (!whole) padded[data.length] = 0x80;
  const mask = whole ? first : doubled(first);
  for (let place = 0; place < 16; place += 1) padded[padded.length - 16 + place] ^= mask[place];
  return encrypted(`${aes}-cbc`, key, padded, Buffer.alloc(16)).subarray(-16);
}

// Every step by itself, as the standard writes it: chain with K, then decrypt with K' and encrypt with K again.
export function retail(key, data) {
  const [k, other] = [key.subarray(0, 8), key.subarray(8, 16)];
  const padded = Buffer.alloc(Math.ceil(data.length / 8) * 8);
  data.copy(padded);
  const chained = encrypted('des-ede3-cbc', Buffer.concat([k, k, k]), padded.subarray(0, -8), Buffer.alloc(8));
  const before = chained.length ? chained.subarray(-8) : Buffer.alloc(8);
  const last = Buffer.from(padded.subarray(-8).map((byte, place) => byte ^ before[place]));
  return encrypted('des-ede3-ecb', Buffer.concat([k, other, k]), last);
}

export function codeOf({ algorithm, key }, body) {
  const raw = Buffer.from(key, 'hex');
  return (algorithm === 'aes-cmac' ? cmac(raw, body) : retail(raw, body)).subarray(0, SIZE);
}

// The last element that the bitmaps (of eight bytes, after the type) name: '128' and '64' are MACs.
export function lastOf(body, typeSize) {
  const size = body[typeSize] & 0x80 ? 16 : 8;
  for (let number = size * 8; number > 1; number -= 1) {
    if ((body[typeSize + ((number - 1) >> 3)] >> (7 - ((number - 1) & 7))) & 1) return String(number);
  }
  return '';
}

export function isAuthentic(mac, body, typeSize = 4) {
  return ['64', '128'].includes(lastOf(body, typeSize)) && codeOf(mac, body.subarray(0, -SIZE)).equals(body.subarray(-SIZE));
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const frames = JSON.parse(readFileSync(process.argv[2], 'utf8'));
  const wrong = frames.flatMap((one, place) => {
    const frame = Buffer.from(one.frame, 'hex');
    const whole = frame.readUInt16BE(0) === frame.length - 2;
    return whole && isAuthentic(one, frame.subarray(2 + one.header), one.typeSize) ? [] : [place];
  });
  process.stdout.write(`${JSON.stringify({ right: frames.length - wrong.length, wrong })}\n`);
}
