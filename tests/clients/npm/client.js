// One session of npm's `socks` through a server.
//
// Usage: client.js PROXY-HOST PROXY-PORT TYPE LOGIN HOST PORT
//
// TYPE is 4 or 5, LOGIN is NAME:PASSWORD or empty. Sends what it reads from stdin, ends its
// direction, and copies the answer to stdout. A failure is named on stderr, with exit status 3.

const fs = require('node:fs');
const { SocksClient } = require('socks');

const [proxyHost, proxyPort, type, login, host, port] = process.argv.slice(2);
const [userId, password] = login ? login.split(':') : [];

function fail(error) {
  process.stderr.write(`${error.name || 'Error'}: ${error.message}\n`);
  process.exitCode = 3;
}

async function main() {
  const input = fs.readFileSync(0);
  const { socket } = await SocksClient.createConnection({
    proxy: { host: proxyHost, port: Number(proxyPort), type: Number(type), userId, password },
    command: 'connect',
    destination: { host, port: Number(port) },
    timeout: 60_000,
  });
  socket.on('error', fail);
  // Before anything else: the package hands out what came with the reply as an event.
  socket.on('data', (bytes) => process.stdout.write(bytes));
  socket.end(input);
}

main().catch(fail);
