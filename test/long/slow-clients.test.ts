/**
 * Clients that take next to nothing, or say next to nothing: what the others feel of it, and the server's memory.
 *
 * Out     figures on standard output, for README.md of this folder
 */
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ServerProcess } from '../support/server-process.js';

const STREAMS = 16;
const ROUNDS = 6;
const IDLE = 2000;
const SLOWLORIS = 500;
const ASKED = 60;
const MIB = 1_048_576;

let server: ServerProcess;
beforeAll(async () => {
  server = await ServerProcess.start({
    TENSOR_PARALLEL_DEGREE: '1',
    SERVING_CHUNKED_READ_TIMEOUT: '20',
    SERVING_LOG_LEVEL: 'info',
  });
});
afterAll(() => server.stop());

const residentBytes = (): number => {
  const [, kib] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, 'utf8'))!;
  return Number(kib) * 1024;
};
/** What the server's own process used: what others do on the machine does not move it. */
const processorMs = (): number => {
  const fields = readFileSync(`/proc/${server.pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
};
const sorted = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b);
const quantile = (values: readonly number[], share: number): number =>
  sorted(values)[Math.min(values.length - 1, Math.floor(values.length * share))]!;

const BODY = {
  prompt: 'Once upon a time',
  max_tokens: 150,
  temperature: 0,
  ignore_eos: true,
  stream: true,
};

/** Times between the pieces of one stream. */
async function gapsOf(): Promise<number[]> {
  const response = await server.post('/v1/completions', { ...BODY, model: 'embedded' });
  const gaps: number[] = [];
  let lastMs: number | null = null;
  for await (const _piece of response.body as unknown as AsyncIterable<Uint8Array>) {
    const nowMs = performance.now();
    if (lastMs !== null) gaps.push(nowMs - lastMs);
    lastMs = nowMs;
  }
  return gaps;
}

/** Much is sent to it. @param reads false: its window closes */
async function heavyReader(reads: boolean): Promise<Socket> {
  const { hostname, port } = new URL(server.url);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => {});
  await new Promise((resolve) => socket.once('connect', resolve));
  if (reads) socket.resume();
  else socket.pause();
  const body = JSON.stringify({ ...BODY, model: 'embedded', n: 2, max_tokens: 400, logprobs: 20 });
  socket.write(
    `POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`.replace(
      'host: x',
      `host: ${hostname}`,
    ),
  );
  return socket;
}

async function round(slow: boolean): Promise<number[]> {
  // The same work both times: what differs is whether anybody takes it.
  const reader = await heavyReader(!slow);
  const gaps = await Promise.all(Array.from({ length: STREAMS - 2 }, gapsOf));
  reader.destroy();
  return gaps.flat();
}

it('a slow reader among 16 streams: the gaps of the others', async () => {
  await round(false);
  const startBytes = residentBytes();
  const quiet: number[] = [];
  const beside: number[] = [];
  for (let at = 0; at < ROUNDS; at++) {
    quiet.push(quantile(await round(false), 0.99));
    beside.push(quantile(await round(true), 0.99));
  }
  const growth = residentBytes() - startBytes;
  const ratio = quantile(beside, 0.5) / quantile(quiet, 0.5);
  console.log(
    `p99 gap, median of ${ROUNDS} interleaved rounds: quiet ${quantile(quiet, 0.5).toFixed(1)} ms, beside a slow reader ` +
      `${quantile(beside, 0.5).toFixed(1)} ms, × ${ratio.toFixed(2)}; resident ${(startBytes / MIB).toFixed(0)} MiB, + ${(growth / MIB).toFixed(1)}`,
  );
  expect(growth).toBeLessThan(64 * MIB);
});

async function open(count: number, begin: string): Promise<Socket[]> {
  const { hostname, port } = new URL(server.url);
  const sockets: Socket[] = [];
  for (let at = 0; at < count; at++) {
    const socket = connect(Number(port), hostname);
    socket.on('error', () => {});
    await new Promise((resolve) => socket.once('connect', resolve));
    if (begin !== '') socket.write(begin);
    sockets.push(socket);
  }
  return sockets;
}

async function latencies(): Promise<{ times: number[]; cpuMs: number }> {
  const times: number[] = [];
  const startCpuMs = processorMs();
  for (let at = 0; at < ASKED; at++) {
    const startMs = performance.now();
    const response = await server.post('/v1/completions', {
      ...BODY,
      model: 'embedded',
      stream: false,
      max_tokens: 8,
    });
    await response.text();
    expect(response.status).toBe(200);
    times.push(performance.now() - startMs);
  }
  return { times, cpuMs: (processorMs() - startCpuMs) / ASKED };
}

it(`${IDLE} idle connections and ${SLOWLORIS} that send a head byte by byte: service goes on`, async () => {
  const before = await latencies();
  const startBytes = residentBytes();
  const idle = await open(IDLE, '');
  const slow = await open(SLOWLORIS, 'POST /v1/completions HTTP/1.1\r\nx-a: ');
  const drip = setInterval(() => {
    for (const socket of slow) if (socket.writable) socket.write('a');
  }, 500);
  const during = await latencies();
  const growth = residentBytes() - startBytes;
  // The limit of a head is the server's: 30 s.
  await Promise.all(
    slow.map((socket) => socket.destroyed || new Promise((resolve) => socket.once('close', resolve))),
  );
  clearInterval(drip);
  const after = await latencies();
  for (const socket of idle) socket.destroy();
  const told = [before, during, after].map(
    ({ cpuMs, times }) =>
      `${quantile(times, 0.5).toFixed(1)} (p99 ${quantile(times, 0.99).toFixed(1)}; ${cpuMs.toFixed(1)} of the processor)`,
  );
  console.log(
    `median ms of a request before, during, after: ${told.join(', ')}; resident + ${(growth / MIB).toFixed(1)} MiB for ${IDLE + SLOWLORIS} connections`,
  );
  expect(growth).toBeLessThan(128 * MIB);
});
