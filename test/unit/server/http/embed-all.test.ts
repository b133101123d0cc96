/** Many texts of one request: in order, a few at a time, and what a full queue means. */
import { describe, expect, it } from 'vitest';
import { ServingError } from '../../../../proto/errors.js';
import { embedAll } from '../../../../server/http/embed-all.js';
import type {
  EmbedRequest,
  Generation,
  GenerationService,
} from '../../../../server/jobs/generate-request.js';

const textOf = (index: number): EmbedRequest => ({
  ...{ task: 'embed', requestId: String(index), model: 'toy', version: null },
  ...{ truncate: null, truncateDefault: false, maxTokens: null, dimensions: null },
  prompt: { kind: 'ids', ids: [index] },
});
const texts = (count: number) => Array.from({ length: count }, (_, index) => textOf(index));

/** Takes `room` texts at a time, and answers the last one first when `release` is called. */
class Service implements Pick<GenerationService, 'submit'> {
  most = 0;
  submitted = 0;
  readonly #waiting: (() => void)[] = [];
  constructor(
    private readonly room: number,
    private readonly failAt = -1,
  ) {}

  async submit(request: EmbedRequest): Promise<Generation> {
    if (this.#waiting.length >= this.room) throw new ServingError('QUEUE_FULL', 'full');
    const index = Number(request.requestId);
    this.submitted++;
    if (index === this.failAt) throw new ServingError('PROMPT_TOO_LONG', 'long');
    const turn = new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.most = Math.max(this.most, this.#waiting.length);
    async function* events() {
      await turn;
      const end = { reason: 'length' as const, text: '', generatedText: '', newTokens: 0, seed: 0 };
      yield { kind: 'finish' as const, ...end, promptTokens: 1, vector: [index] };
    }
    return { promptTokens: 1, events: events() };
  }

  release(): void {
    this.#waiting.pop()?.();
  }
}

async function run(service: Service, count: number, client = new AbortController()) {
  const collect = await embedAll(service as unknown as GenerationService, texts(count), client, ([x]) => x!);
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
