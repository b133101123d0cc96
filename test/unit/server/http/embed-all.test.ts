/** Many texts of one request: in order, a few at a time, and what a full queue means. */
import { describe, expect, it } from 'vitest';
import { ServingError } from '../../../../proto/errors.js';
import { embedAll } from '../../../../server/http/answers/embed-all.js';
import type { EmbedRequest } from '../../../../server/requests/embed-request.js';
import { finishWithoutText } from '../../../../server/requests/job-events.js';
import type {
  Accepted,
  EventsOf,
  InferenceService,
  JobRequest,
} from '../../../../server/requests/service.js';

const textOf = (index: number): EmbedRequest => ({
  ...{ kind: 'embed', requestId: String(index), model: 'toy', version: null },
  ...{ truncate: null, truncateDefault: false, maxTokens: null, dimensions: null },
  prompt: { kind: 'ids', ids: [index] },
});
const texts = (count: number) => Array.from({ length: count }, (_, index) => textOf(index));

/** Takes `room` texts at a time, and answers the last one first when `release` is called. */
class Service implements Pick<InferenceService, 'submit'> {
  most = 0;
  submitted = 0;
  readonly #waiting: (() => void)[] = [];
  readonly #room: number;
  readonly #failAt: number;

  constructor(room: number, failAt = -1) {
    this.#room = room;
    this.#failAt = failAt;
  }

  async submit<R extends JobRequest>(request: R): Promise<Accepted<EventsOf<R>>> {
    if (this.#waiting.length >= this.#room) throw new ServingError('QUEUE_FULL', 'full');
    const index = Number(request.requestId);
    this.submitted++;
    if (index === this.#failAt) throw new ServingError('PROMPT_TOO_LONG', 'long');
    const turn = new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.most = Math.max(this.most, this.#waiting.length);
    async function* events() {
      await turn;
      yield { kind: 'vector' as const, vector: [index] };
      yield finishWithoutText(1);
    }
    return { promptTokens: 1, events: events() } as Accepted<EventsOf<R>>;
  }

  release(): void {
    this.#waiting.pop()?.();
  }
}

async function run(service: Service, count: number, client = new AbortController()) {
  const collect = await embedAll(service as unknown as InferenceService, texts(count), client, ([x]) => x!);
  const done = collect();
  let ended = false;
  done.then(
    () => (ended = true),
    () => (ended = true),
  );
  while (!ended) {
    service.release();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return done;
}

describe('the vectors of many texts', () => {
  it('are asked for again where the last that ran ended while another was refused', async () => {
    const service = new Service(1);
    const { submit } = service;
    const late = async (request: EmbedRequest) => {
      try {
        return await submit.call(service, request);
      } catch (error) {
        // Between the look at the queue and the answer the text that ran has ended.
        service.release();
        await new Promise((resolve) => setImmediate(resolve));
        throw error;
      }
    };
    const slow = { submit: late } as unknown as InferenceService;
    const collect = await embedAll(slow, texts(3), new AbortController(), ([x]) => x!);
    const done = collect();
    // The third has nobody behind it.
    while (service.submitted < 3) await new Promise((resolve) => setImmediate(resolve));
    service.release();
    expect((await done).vectors).toEqual([0, 1, 2]);
  });

  it('come in the order of the texts, with the tokens of all', async () => {
    const { promptTokens, vectors } = await run(new Service(1000), 150);
    expect(vectors).toEqual(Array.from({ length: 150 }, (_, index) => index));
    expect(promptTokens).toBe(150);
  });

  it('no more than 64 of them wait', async () => {
    const service = new Service(1000);
    await run(service, 300);
    expect(service.most).toBe(64);
  });

  it('wait for their own where the queue is full', async () => {
    const { vectors } = await run(new Service(3), 40);
    expect(vectors).toHaveLength(40);
  });

  it('a full queue that holds none of them refuses the first', async () => {
    await expect(run(new Service(0), 5)).rejects.toMatchObject({ code: 'QUEUE_FULL' });
  });

  it('another refusal ends all of them', async () => {
    const client = new AbortController();
    await expect(run(new Service(1000, 7), 20, client)).rejects.toMatchObject({ code: 'PROMPT_TOO_LONG' });
    expect(client.signal.aborted).toBe(true);
  });
});
