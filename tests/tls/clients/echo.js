// An echo over TLS with node: echo.js HOST:PORT CA VERSION SIZE WHEN. Ends with close_notify and FIN behind it.
// WHEN is reading, or late: a while after everything is sent. Prints `whole, ended` if that is how it went.
'use strict';

const crypto = require('crypto');
const fs = require('fs');
const tls = require('tls');

const [address, ca, version, size, when] = process.argv.slice(2);
const [host, port] = address.split(':');
const sent = crypto.randomBytes(Number(size));
const received = [];

const socket = tls.connect({
  host,
  port: Number(port),
  servername: 'localhost',
  ca: fs.readFileSync(ca),
  minVersion: `TLSv${version}`,
  maxVersion: `TLSv${version}`,
  ALPNProtocols: ['echo'],
  allowHalfOpen: true,
});

socket.on('secureConnect', () => {
  const read = () => socket.on('data', (chunk) => received.push(chunk));
  if (when === 'late') {
    socket.pause();
    socket.end(sent, () => setTimeout(() => { read(); socket.resume(); }, 300));
  } else {
    read();
    socket.end(sent);
  }
});
socket.on('end', () => {
  const all = Buffer.concat(received);
  console.log(`${all.equals(sent) ? 'whole' : `${all.length} of ${sent.length} bytes`}, ended`);
});
socket.on('error', (error) => {
  console.log(`error: ${error.message}`);
  process.exit(1);
});
