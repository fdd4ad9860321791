// An echo through https://www.npmjs.com/package/ws: `ws_client.js HOST:PORT`.
'use strict';

const assert = require('node:assert');
const { once } = require('node:events');
const WebSocket = require('ws');

const LIMIT = 16 << 20;
const url = `ws://${process.argv[2]}/`;

async function open() {
  const socket = new WebSocket(url, { maxPayload: 2 * LIMIT });
  await once(socket, 'open');
  return socket;
}

async function echoes(socket, message) {
  const isBinary = Buffer.isBuffer(message);
  socket.send(message);
  const [data, cameAsBinary] = await once(socket, 'message');
  assert.strictEqual(cameAsBinary, isBinary);
  assert(data.equals(Buffer.from(message)));
}

async function messages() {
  const socket = await open();
  for (const message of ['', 'hello', 'grüße 😀', 'x'.repeat(126), 'ü'.repeat(40000)]) {
    await echoes(socket, message);
  }
  for (const length of [0, 125, 126, 65535, 65536, LIMIT]) {
    await echoes(socket, Buffer.alloc(length, 7));
  }
  socket.send('a', { fin: false });
  socket.send('', { fin: false });
  socket.ping('between fragments');
  socket.send('b');
  const [[pong], [joined]] = await Promise.all([once(socket, 'pong'), once(socket, 'message')]);
  assert.strictEqual(pong.toString(), 'between fragments');
  assert.strictEqual(joined.toString(), 'ab');
  socket.close(3000, 'done');
  const [code] = await once(socket, 'close');
  assert.strictEqual(code, 3000);
}

async function closesWithoutACode() {
  const socket = await open();
  socket.close();
  const [code] = await once(socket, 'close');
  assert.strictEqual(code, 1005);
}

// What the library sends on this way has the wrong form.
async function violations() {
  for (const [bytes, expected] of [
    [[0x81, 0x80, 0, 0, 0, 0], null],
    [[0x81, 0x01, 0x61], 1002],
    [[0xc1, 0x81, 0, 0, 0, 0, 0x61], 1002],
    [[0x83, 0x80, 0, 0, 0, 0], 1002],
    [[0x80, 0x80, 0, 0, 0, 0], 1002],
    [[0x81, 0x81, 0, 0, 0, 0, 0xff], 1007],
  ]) {
    const socket = await open();
    socket._socket.write(Buffer.from(bytes));
    if (expected === null) {
      await once(socket, 'message');
      socket.terminate();
    } else {
      const [code] = await once(socket, 'close');
      assert.strictEqual(code, expected, JSON.stringify(bytes));
    }
  }
}

async function tooLong() {
  const socket = await open();
  socket.on('error', () => {});
  socket.send(Buffer.alloc(LIMIT + 1));
  const [code] = await once(socket, 'close');
  assert.strictEqual(code, 1009);
}

async function main() {
  await messages();
  await closesWithoutACode();
  await violations();
  await tooLong();
  console.log('ws', require('ws/package.json').version);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
