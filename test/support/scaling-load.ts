/**
 * Load that comes and goes against a server with one to three worker groups: every request is answered once, with its own
 * answer; the groups rise and fall, and the log says when.
 */
import { expect } from 'vitest';
import type { KnownAnswer } from './known-answers.js';
import { isRunning, type LogLine, type ServerProcess } from './server-process.js';

export const SCALING_ENVIRONMENT = {
  TENSOR_PARALLEL_DEGREE: '1',
  SERVING_MIN_WORKERS: '1',
  SERVING_MAX_WORKERS: '3',
  SERVING_MAX_IDLE_TIME: '2',
  SERVING_JOB_QUEUE_SIZE: '12',
  OPTION_MAX_ROLLING_BATCH_SIZE: '4',
};
/** More than three groups run and the queue holds. */
const CLIENTS = 32;
const QUEUE_FULL = {
  code: 503,
  type: 'WlmCapacityException',
  message: 'Worker queue capacity exceeded for model: embedded',
};

export interface LoadReport {
  answered: number;
  refused: number;
  /** Seconds from the first request of each wave: `[seconds, groups that run]`. */
  waves: [number, number][][];
}

export async function runScalingLoad(
  server: ServerProcess,
  answers: readonly KnownAnswer[],
  waves: number,
): Promise<LoadReport> {
  const report: LoadReport = { answered: 0, refused: 0, waves: [] };
  const perWave = Math.ceil(answers.length / waves);
  for (let wave = 0; wave < waves; wave++) {
    const from = server.lines.length;
    const startMs = Date.now();
    const due = answers
      .slice(wave * perWave, (wave + 1) * perWave)
      .map((answer, index) => ({ answer, id: `wave-${wave}-${index}` }));
    const current = new Wave(due);
    const lastAnswers = await Promise.all(
      Array.from({ length: CLIENTS }, () => client(server, current, report)),
    );
    const lastAnswerMs = Math.max(...lastAnswers);
    const isFallen = (line: LogLine): boolean => line.msg === 'worker groups running' && line.running === 1;
    const rose = await server.line(
      (line) => line.msg === 'worker groups running' && line.running === 3,
      from,
    );
    await server.line(isFallen, server.lines.indexOf(rose));
    const changes = server.lines.slice(from).filter((line) => line.msg === 'worker groups running');
    report.waves.push(changes.map((line) => [(Number(line.time) - startMs) / 1000, Number(line.running)]));
    checkWave(server.lines.slice(from), changes, lastAnswerMs);
  }
  await checkOnce(server, answers.length, waves);
  return report;
}

/** Requests that are due, and those that are on their way. */
class Wave {
  readonly due: { answer: KnownAnswer; id: string }[];
  #onTheirWay = 0;
  #waiting: (() => void)[] = [];

  constructor(due: { answer: KnownAnswer; id: string }[]) {
    this.due = due;
  }

  asked(): void {
    this.#onTheirWay++;
  }

  answered(): void {
    this.#onTheirWay--;
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** Called by one that was refused; resolves at once when nobody else is on the way. */
  async answerOfAnother(): Promise<void> {
    this.#onTheirWay--;
    if (this.#onTheirWay > 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }
}

/** Sends what is due until nothing is; one that is refused goes back to the end. @returns when the last was answered */
async function client(server: ServerProcess, wave: Wave, report: LoadReport): Promise<number> {
  let lastMs = 0;
  for (let next = wave.due.shift(); next; next = wave.due.shift()) {
    const { answer, id } = next;
    wave.asked();
    const response = await fetch(`${server.url}/predictions/embedded`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-request-id': id },
      body: JSON.stringify({
        inputs: answer.prompt,
        parameters: { max_new_tokens: answer.ids.length, do_sample: false, ignore_eos: true, details: true },
      }),
    });
    expect(response.headers.get('x-request-id')).toBe(id);
    const body = (await response.json()) as { details?: { tokens: { id: number }[] } };
    if (response.status === 503) {
      expect(body).toEqual(QUEUE_FULL);
      expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0);
      report.refused++;
      wave.due.push(next);
      // Not at once again: the server is as busy as it was, until somebody has been answered.
      await wave.answerOfAnother();
      continue;
    }
    expect(response.status).toBe(200);
    expect(
      body.details?.tokens.map((token) => token.id),
      `${id}: ${answer.prompt}`,
    ).toEqual(answer.ids);
    report.answered++;
    wave.answered();
    lastMs = Date.now();
  }
  return lastMs;
}

function checkWave(lines: readonly LogLine[], changes: readonly LogLine[], lastAnswerMs: number): void {
  const counts = changes.map((line) => Number(line.running));
  expect(counts[0], 'the first change is a rise').toBe(2);
  expect(Math.max(...counts)).toBe(3);
  expect(Math.min(...counts)).toBe(1);
  const times = changes.map((line) => Number(line.time));
  expect(times).toEqual([...times].sort((a, b) => a - b));
  const stops = lines.filter((line) => line.msg === 'worker group stops');
  for (const stop of stops) expect(stop.why).toBe('idle');
  // A group is idle for two whole seconds before it goes; the last may only go after the last answer and those.
  const lastStopMs = Number(stops.at(-1)?.time);
  expect(lastStopMs - lastAnswerMs).toBeGreaterThan(2000 - 1000);
}

/** Every request had a slot exactly once, whoever was refused before; and no worker is left but those of one group. */
async function checkOnce(server: ServerProcess, requests: number, waves: number): Promise<void> {
  const taken = server.lines.filter((line) => line.msg === 'slot taken').map((line) => line.requestId);
  expect(taken).toHaveLength(requests);
  expect(new Set(taken).size).toBe(requests);
  const groups = server.lines.filter((line) => line.msg === 'worker group starts').length;
  await server.until(
    () => count(server, 'worker group stopped') === groups - 1,
    'the end of all groups but one',
  );
  const started = server.lines.filter((line) => line.msg === 'shard worker ready');
  expect(started.length).toBeGreaterThanOrEqual(1 + 2 * waves);
  expect(started.filter((line) => isRunning(Number(line.workerPid)))).toHaveLength(1);
}

const count = (server: ServerProcess, message: string): number =>
  server.lines.filter((line) => line.msg === message).length;
