/** Health and reflection, which anybody may ask: readers that take nothing, callers of any number, names of any kind. */
import { Duplex } from 'node:stream';
import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { expect, it } from 'vitest';
import { protoFile } from '../../../../proto/proto-file.js';
import { PROTO_OPTIONS } from '../../../../server/grpc/oip-messages.js';
import { addOpenServices } from '../../../../server/grpc/open-services.js';

type Call = (call: unknown) => void;
const NAME = 'inference.GRPCInferenceService';
const LISTED = { listServices: '', messageRequest: 'listServices' };

function added(): { reflect: Call; watch: Call; watchers: Map<string, unknown> } {
  const handlers: Record<string, UntypedServiceImplementation> = {};
  const health = addOpenServices(
    (service, own) => {
      for (const { path } of Object.values(service)) handlers[path] = own;
    },
    ['', NAME],
    [loadSync(protoFile('open_inference.proto'), PROTO_OPTIONS)],
  );
  const reflection = handlers['/grpc.reflection.v1.ServerReflection/ServerReflectionInfo']!;
  return {
    reflect: reflection.ServerReflectionInfo as unknown as Call,
    watch: handlers['/grpc.health.v1.Health/Watch']!.watch as unknown as Call,
    ...(health as unknown as { watchers: Map<string, unknown> }),
  };
}

/** A call whose reader takes what `taken` lets it. */
class Reflection extends Duplex {
  readonly metadata = {};
  readonly written: unknown[] = [];
  readonly #waiting: (() => void)[] = [];
  told: unknown = null;

  constructor() {
    super({ objectMode: true, writableHighWaterMark: 1, read: () => {} });
    this.on('error', (error) => {
      this.told = error;
    });
  }

  override _write(answer: unknown, _encoding: string, done: () => void): void {
    this.written.push(answer);
    this.#waiting.push(done);
  }

  takeOne(): void {
    this.#waiting.shift()?.();
  }
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

it('of a reader of reflection that takes nothing no more questions are read', async () => {
  const { reflect } = added();
  const call = new Reflection();
  reflect(call);
  for (let question = 0; question < 10; question++) call.push(LISTED);
  await turn();
  expect([call.written.length, call.readableLength]).toEqual([1, 9]);
  for (let answer = 0; answer < 10; answer++) {
    call.takeOne();
    await turn();
  }
  expect([call.written.length, call.readableLength]).toEqual([10, 0]);
  expect(call.written[9]).toMatchObject({ listServicesResponse: { service: [{ name: NAME }] } });
  call.destroy();
});

it('so many calls of reflection run at a time, and one that has ended makes room', async () => {
  const { reflect } = added();
  const running = Array.from({ length: 64 }, () => new Reflection());
  for (const call of running) reflect(call);
  const refused = new Reflection();
  reflect(refused);
  expect(refused.told).toMatchObject({ details: '64 calls of reflection are running, as many as may be' });
  running[0]!.destroy();
  await turn();
  const next = new Reflection();
  reflect(next);
  next.push(LISTED);
  await turn();
  expect(next.written).toHaveLength(1);
  for (const call of [...running, next]) call.destroy();
});

it('who watches a service that there is not is told so, and remembered nowhere', () => {
  const { watch, watchers } = added();
  const told: unknown[] = [];
  const call = (service: string) => ({
    ...{ request: { service }, on: () => {}, write: (answer: unknown) => told.push(answer) },
  });
  for (let index = 0; index < 100; index++) watch(call(`${index}`.repeat(1000)));
  expect(told.length).toBe(100);
  expect(told[99]).toEqual({ status: 'SERVICE_UNKNOWN' });
  expect(watchers.size).toBe(0);
  watch(call(NAME));
  expect([told[100], watchers.size]).toEqual([{ status: 'SERVING' }, 1]);
});
