/**
 * Every fault, in every state a request can be in, for every way of asking, over both ways of joining ranks.
 *
 * In      which of them; how many requests a way
 * Out     a row a fault and state: answered, wrong, doubled, the time from the fault to the next token
 * How     a cell strikes a rank while requests of all ways are in that state, and compares each answer with what an undisturbed run
 *         of the same server gives: greedy and sampled
 * Limits  what the machine does not permit is a row that says so
 */
import { describedModel } from '../support/described-groups.js';
import { type Answer, type Asked, ask, WAYS, type Way } from './ask.js';
import type { RankFault } from './fault-orders.js';
import { FaultyServer } from './faulty-server.js';

export const FAULTS = [
  'kill',
  'stop',
  'exhaust-memory',
  'garbage',
  'partial',
  'slow',
  'full-shm',
  'full-disk',
] as const;
export type Fault = (typeof FAULTS)[number];
export const STATES = ['queued', 'prefill', 'decode'] as const;
export type State = (typeof STATES)[number];
export const COLLECTIVES = ['shm', 'zmq'] as const;
export type CollectiveName = (typeof COLLECTIVES)[number];

export interface Cell {
  fault: Fault;
  state: State;
  collective: CollectiveName;
}

export interface CellResult extends Cell {
  /** Why it was not run; null: it was. */
  skipped: string | null;
  /** By way. */
  asked: Record<Way, number>;
  answered: Record<Way, number>;
  wrong: number;
  doubled: number;
  /** From the fault to each stream's next token: its longest pause since. */
  gapsMs: number[];
  /** Sentences on what went wrong. */
  problems: string[];
  /** What groups died of. */
  deaths: string[];
}

const SLOTS = 8;
const NEW_TOKENS = 40;
const SHORT =
  'Once upon a time there was a little girl who lived in a small house near the forest. One day she';
const LONG = `${SHORT} ${'met a friendly rabbit who told her about a hidden garden where the flowers sang and the trees danced. '.repeat(12)}`;
const PARAMETERS = {
  greedy: { max_new_tokens: NEW_TOKENS, do_sample: false, ignore_eos_token: true },
  sampled: { max_new_tokens: NEW_TOKENS, do_sample: true, temperature: 1, seed: 7, ignore_eos_token: true },
};
/** Holds every slot until others wait. */
const FILLER = { max_new_tokens: 80, do_sample: false, ignore_eos_token: true };

const ENVIRONMENT = {
  TENSOR_PARALLEL_DEGREE: '2',
  OPTION_THREADS_PER_RANK: '1',
  OPTION_MAX_ROLLING_BATCH_SIZE: String(SLOTS),
  // Many small pieces: a prompt is on its way for long enough to be struck.
  OPTION_PREFILL_CHUNK_MS: '1',
  SERVING_RETRY_THRESHOLD: '1000',
  // A slow rank on a busy machine makes a queue wait for minutes.
  OPTION_PREDICT_TIMEOUT: '600',
};

/** What the rank does, and which of them: over ZeroMQ frames go between ranks, else only rank 0 sends any. */
function rankFaultOf(fault: Fault, collective: CollectiveName): { fault: RankFault; rank: number } {
  if (fault === 'full-shm' || fault === 'full-disk') return { fault: 'kill', rank: 1 };
  if (fault === 'garbage' || fault === 'partial') return { fault, rank: collective === 'zmq' ? 1 : 0 };
  return { fault, rank: 1 };
}

/** One server, one way of joining ranks. */
export class FaultMatrix {
  readonly #server: FaultyServer;
  readonly #collective: CollectiveName;
  readonly #requestsPerWay: number;
  readonly #undisturbed = new Map<string, string>();
  #cells = 0;

  private constructor(server: FaultyServer, collective: CollectiveName, requestsPerWay: number) {
    this.#server = server;
    this.#collective = collective;
    this.#requestsPerWay = requestsPerWay;
  }

  static async start(collective: CollectiveName, requestsPerWay: number): Promise<FaultMatrix> {
    const server = await FaultyServer.start(() => ({ ...ENVIRONMENT, OPTION_COLLECTIVE: collective }));
    return new FaultMatrix(server, collective, requestsPerWay);
  }

  /** What it strikes. */
  get faulty(): FaultyServer {
    return this.#server;
  }

  stop(): Promise<void> {
    return this.#server.stop();
  }

  async run(fault: Fault, state: State): Promise<CellResult> {
    const cell: Cell = { fault, state, collective: this.#collective };
    const ways = { stream: 0, whole: 0, asynchronous: 0 };
    const result: CellResult = {
      ...cell,
      ...{
        asked: { ...ways },
        answered: { ...ways },
        wrong: 0,
        doubled: 0,
        gapsMs: [],
        problems: [],
        deaths: [],
      },
      skipped: this.#server.missing(fault),
    };
    if (result.skipped !== null) return result;
    const number = ++this.#cells;
    const requests = this.#requests(state, `cell-${this.#collective}-${number}`);
    for (const asked of requests) await this.#learn(asked);
    await this.#isUp();
    const { server } = this.#server;
    const from = server.lines.length;
    if (fault === 'full-shm' || fault === 'full-disk') this.#server.fill(fault);
    try {
      const { answers, struckMs } = await this.#disturbed(cell, requests, `${number}`);
      for (const [index, asked] of requests.entries())
        this.#judge(result, asked, answers[index]!, struckMs, from);
    } finally {
      this.#server.relent();
      if (fault === 'full-shm' || fault === 'full-disk') this.#server.empty(fault);
    }
    result.deaths = server.lines
      .slice(from)
      .filter(({ msg }) => msg === 'worker group died')
      .map(({ err }) => (err as { message: string }).message);
    return result;
  }

  #requests(state: State, cell: string): Asked[] {
    const prompt = state === 'prefill' ? LONG : SHORT;
    return WAYS.flatMap((way) =>
      Array.from({ length: this.#requestsPerWay }, (_, index) => ({
        ...{ id: `${cell}-${way}-${index}`, way, prompt },
        // Each computes its own prompt.
        salt: `${cell}-${way}-${index}`,
        parameters: index % 2 === 0 ? PARAMETERS.greedy : PARAMETERS.sampled,
      })),
    );
  }

  /** Sends the requests, strikes while they are in that state, and waits for all answers. */
  async #disturbed({ fault, state, collective }: Cell, requests: readonly Asked[], id: string) {
    const { url } = this.#server.server;
    const isQueued = state === 'queued';
    const fillers = isQueued ? await this.#fillSlots(id) : [];
    const order = {
      ...{ id, ...rankFaultOf(fault, collective) },
      ...(isQueued ? { when: 'any' as const, begun: 0 } : { when: state, begun: requests.length }),
    };
    let struck = isQueued ? null : this.#server.strike(order);
    const answers = requests.map((asked) => ask(url, asked));
    if (isQueued) {
      await this.#waiting(requests.length);
      struck = this.#server.strike(order);
    }
    const struckMs = await struck!;
    for (const { problem } of await Promise.all(fillers)) if (problem !== null) throw new Error(problem);
    return { answers: await Promise.all(answers), struckMs };
  }

  async #fillSlots(id: string): Promise<Promise<Answer>[]> {
    const { server } = this.#server;
    const from = server.lines.length;
    const fillers = Array.from({ length: SLOTS }, (_, index) =>
      ask(server.url, { id: `filler-${id}-${index}`, way: 'whole', prompt: SHORT, parameters: FILLER }),
    );
    const taken = (): number =>
      server.lines
        .slice(from)
        .filter(({ msg, requestId }) => msg === 'slot taken' && String(requestId).startsWith('filler-'))
        .length;
    await server.until(() => taken() >= SLOTS, `${SLOTS} slots`);
    return fillers;
  }

  /** So many wait in the queue: nothing in the log tells of it. */
  async #waiting(count: number): Promise<void> {
    const { server } = this.#server;
    for (;;) {
      const response = await fetch(`${server.url}/models/embedded`);
      const [{ models }] = (await response.json()) as [{ models: { requestInQueue: number }[] }];
      if (models[0]!.requestInQueue >= count) return;
    }
  }

  /** What the same request gives when nothing happens. */
  async #learn(asked: Asked): Promise<void> {
    const key = keyOf(asked);
    if (this.#undisturbed.has(key)) return;
    await this.#isUp();
    const { content, problem } = await ask(this.#server.server.url, {
      ...asked,
      ...{ id: `calm-${asked.id}`, salt: `calm-${asked.id}` },
    });
    if (problem !== null) throw new Error(`an undisturbed request has failed: ${problem}`);
    this.#undisturbed.set(key, content);
  }

  async #isUp(): Promise<void> {
    for (;;) {
      const { groups, status } = await describedModel(this.#server.server);
      if (status === 'FAILED') throw new Error('the model has failed');
      if (groups.some(({ state }) => state === 'running')) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  #judge(result: CellResult, asked: Asked, answer: Answer, struckMs: number, from: number): void {
    const { id, way } = asked;
    result.asked[way]++;
    if (answer.problem !== null) {
      result.problems.push(`${id}: ${answer.problem}`);
      return;
    }
    result.answered[way]++;
    if (answer.content !== this.#undisturbed.get(keyOf(asked))) {
      result.wrong++;
      result.problems.push(`${id}: another text: ${answer.content.slice(-300)}`);
    }
    const finished = this.#server.server.lines
      .slice(from)
      .filter(
        ({ msg, requestId, why }) => msg === 'slot freed' && requestId === id && why === 'finished',
      ).length;
    if (finished > 1) result.doubled++;
    const pause = pauseAfter(answer.tokenMs, struckMs);
    if (pause !== null) result.gapsMs.push(pause);
  }
}

const keyOf = ({ parameters, prompt, way }: Asked): string => JSON.stringify([way, prompt, parameters]);

/** The longest wait for a token since the fault: those that were on their way still come. */
function pauseAfter(tokenMs: readonly number[], struckMs: number): number | null {
  const pauses = tokenMs.flatMap((atMs, index) =>
    atMs > struckMs ? [atMs - Math.max(struckMs, tokenMs[index - 1] ?? 0)] : [],
  );
  return pauses.length === 0 ? null : Math.max(...pauses);
}
