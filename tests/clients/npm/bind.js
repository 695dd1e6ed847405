// One connection to npm's `socks` by way of a server (BIND).
//
// Usage: bind.js PROXY-HOST PROXY-PORT TYPE LOGIN HOST PORT
//
// TYPE is 4 or 5, LOGIN is NAME:PASSWORD or empty, HOST and PORT are who is to come. Prints a line
// with where the server waits for them, then a line with who came, then what they send. Sends them
// what it reads from stdin, and ends its direction. A failure is named on stderr, with exit
// status 3.

const fs = require('node:fs');
const { SocksClient } = require('socks');

const [proxyHost, proxyPort, type, login, host, port] = process.argv.slice(2);
const [userId, password] = login ? login.split(':') : [];
const input = fs.readFileSync(0);

function print({ host, port }) {
  process.stdout.write(`${host} ${port}\n`);
}

function fail(error) {
  process.stderr.write(`${error.name || 'Error'}: ${error.message}\n`);
  process.exitCode = 3;
}

const client = new SocksClient({
  proxy: { host: proxyHost, port: Number(proxyPort), type: Number(type), userId, password },
  command: 'bind',
  destination: { host, port: Number(port) },
  timeout: 60_000,
});
client.on('error', fail);
client.on('bound', ({ remoteHost }) => print(remoteHost));
client.on('established', ({ remoteHost, socket }) => {
  print(remoteHost);
  socket.on('error', fail);
  // Before anything else: the package hands out what came with the reply as an event.
  socket.on('data', (bytes) => process.stdout.write(bytes));
  socket.end(input);
});
client.connect();
