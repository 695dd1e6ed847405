// A conversation of npm's `socks` by datagrams with servers that echo them.
//
// Usage: datagrams.js PROXY-HOST PROXY-PORT LOGIN LEN COUNT HOST:PORT...
//
// Sends COUNT numbered datagrams of LEN bytes to the servers in turn, never more than WINDOW
// without an answer. If it hears nothing for a while, whatever has no answer is sent again. Says
// how many it has sent and how many answers came, and of each server, how many datagrams it
// answered, and from where. A failure is named on stderr, with exit status 3.

const crypto = require('node:crypto');
const dgram = require('node:dgram');
const net = require('node:net');
const { SocksClient } = require('socks');

const WINDOW = 64;
// What goes through is answered within milliseconds, unless somebody is kept from running.
const SILENCE = 5_000;
const PATIENCE = 120_000;
// Nothing gets lost at our end.
const RECEIVE_BUFFER = 1 << 20;
const NUMBER_LEN = 4;

const [proxyHost, proxyPort, login, length, count, ...names] = process.argv.slice(2);
const [userId, password] = login ? login.split(':') : [];
const servers = names.map((name) => {
  const colon = name.lastIndexOf(':');
  return { name, host: name.slice(0, colon), port: Number(name.slice(colon + 1)) };
});
const noise = crypto.randomBytes(Number(length) - NUMBER_LEN);

function fail(error) {
  process.stderr.write(`${error.name || 'Error'}: ${error.message}\n`);
  process.exit(3);
}

function payload(number) {
  const bytes = Buffer.alloc(NUMBER_LEN);
  bytes.writeUInt32BE(number);
  // Every datagram has its own bytes, not only its own number.
  const turn = number % noise.length;
  return Buffer.concat([bytes, noise.subarray(turn), noise.subarray(0, turn)]);
}

function converse(relay, control) {
  const ours = dgram.createSocket(net.isIPv6(relay.host) ? 'udp6' : 'udp4');
  const unanswered = new Set();
  const sources = servers.map(() => new Set());
  let nextNumber = 0;
  let sent = 0;
  let received = 0;
  let silence;

  function send(number) {
    const frame = SocksClient.createUDPFrame({
      remoteHost: servers[number % servers.length],
      data: payload(number),
    });
    ours.send(frame, relay.port, relay.host);
    sent += 1;
  }

  function sendNew() {
    for (; nextNumber < count && unanswered.size < WINDOW; nextNumber += 1) {
      unanswered.add(nextNumber);
      send(nextNumber);
    }
  }

  function sendAgain() {
    if (unanswered.size === 0) {
      finish();
      return;
    }
    unanswered.forEach(send);
    silence = setTimeout(sendAgain, SILENCE);
  }

  function finish() {
    clearTimeout(silence);
    ours.close();
    control.destroy();
    console.log(`${sent} sent, ${received} answers`);
    servers.forEach(({ name }, place) => {
      const answered = Math.floor((count - 1 - place) / servers.length) + 1;
      const seen = [...sources[place]].sort().join(' ');
      console.log(`${name} answered ${answered} from ${seen}`);
    });
  }

  ours.on('error', fail);
  ours.on('message', (message) => {
    const { frameNumber, remoteHost, data } = SocksClient.parseUDPFrame(message);
    const number = data.length >= NUMBER_LEN ? data.readUInt32BE() : nextNumber;
    if (frameNumber !== 0 || number >= nextNumber || !data.equals(payload(number))) {
      fail(new Error(`not an answer: ${message.subarray(0, 32).toString('hex')}`));
    }
    sources[number % servers.length].add(`${remoteHost.host}:${remoteHost.port}`);
    received += 1;
    unanswered.delete(number);
    silence.refresh();
    sendNew();
    // To the last answer of what was sent twice, if it does not get lost.
    if (received === sent) {
      finish();
    }
  });
  ours.bind(0, () => {
    ours.setRecvBufferSize(RECEIVE_BUFFER);
    silence = setTimeout(sendAgain, SILENCE);
    sendNew();
  });
}

const client = new SocksClient({
  proxy: { host: proxyHost, port: Number(proxyPort), type: 5, userId, password },
  command: 'associate',
  destination: { host: '0.0.0.0', port: 0 },
  timeout: 60_000,
});
setTimeout(() => fail(new Error('not all datagrams are answered')), PATIENCE).unref();
client.on('error', fail);
client.on('established', ({ remoteHost, socket }) => {
  socket.on('error', fail);
  converse(remoteHost, socket);
});
client.connect();
