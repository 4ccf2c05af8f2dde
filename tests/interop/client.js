// A client of @grpc/grpc-js; clients.py tells what it is told on its standard input and what it answers.
'use strict';

const fs = require('fs');
const readline = require('readline');
const grpc = require('@grpc/grpc-js');

const ALGORITHMS = { identity: 0, deflate: 1, gzip: 2 };
const address = process.argv[2];
const clients = {};

function clientThat(compression) {
  clients[compression] ??= new grpc.Client(address, grpc.credentials.createInsecure(), {
    'grpc.max_receive_message_length': -1,
    'grpc.max_send_message_length': -1,
    'grpc.keepalive_time_ms': 1000,
    'grpc.keepalive_permit_without_calls': 1,
    'grpc.default_compression_algorithm': ALGORITHMS[compression],
  });
  return clients[compression];
}

function ask(method, timeoutMillis, how, body) {
  const metadata = new grpc.Metadata();
  metadata.set('tenant', 'a');
  metadata.set('blob-bin', Buffer.from([0, 255]));
  const options = timeoutMillis ? { deadline: Date.now() + timeoutMillis } : {};
  return new Promise((resolve) => {
    const pass = (bytes) => bytes;
    const client = clientThat(how === 'cancel' ? 'identity' : how);
    const call = client.makeUnaryRequest(method, pass, pass, body, metadata, options, (error, answer) =>
      resolve({ code: error ? error.code : 0, message: error ? error.details : '', answer }));
    if (how === 'cancel') setTimeout(() => call.cancel(), 100);
  });
}

async function carryOut(line) {
  const [method, timeoutMillis, how, count, bodyFile, answerFile] = line.split('\t');
  const body = fs.readFileSync(bodyFile);
  const outcomes = await Promise.all(Array.from({ length: +count }, () => ask(method, +timeoutMillis, how, body)));
  const codes = {};
  for (const { code } of outcomes) codes[code] = (codes[code] ?? 0) + 1;
  const last = outcomes[outcomes.length - 1];
  fs.writeFileSync(answerFile, last.answer ?? Buffer.alloc(0));
  const written = Object.entries(codes).map(([code, number]) => `${code}:${number}`).join(' ');
  console.log(`${written}\t${Buffer.from(last.message).toString('hex')}`);
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) await carryOut(line);
  for (const client of Object.values(clients)) client.close();
})();
