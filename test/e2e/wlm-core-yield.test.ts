/** Two models share the cores: the workers of the one that is saturated run at the lowest priority while the other has work. */
import { readFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { canRaisePriority, LOWEST_PRIORITY } from '../../server/machine/process-priority.js';
import { describedModel } from '../support/described-groups.js';
import { EMBEDDED } from '../support/known-answers.js';
import { ServerProcess } from '../support/server-process.js';

let server: ServerProcess;
beforeAll(async () => {
  server = await ServerProcess.start({
    ...{ SERVING_LOAD_MODELS: `busy=${EMBEDDED},quiet=${EMBEDDED}`, TENSOR_PARALLEL_DEGREE: '1' },
    OPTION_MAX_ROLLING_BATCH_SIZE: '1',
  });
});
afterAll(async () => {
  server?.kill('SIGKILL');
  await server?.exited;
});

const pidOf = async (model: string): Promise<number> =>
  (await describedModel(server, model)).groups[0]!.pids[0]!;

/** Nice value of a process' first thread. */
function niceOf(pid: number): number {
  const status = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return Number(status.slice(status.lastIndexOf(')') + 2).split(' ')[16]);
}

/** A request that runs until it is left. */
function ask(model: string, tokens: number): { end: () => Promise<void> } {
  const leave = new AbortController();
  const parameters = { max_new_tokens: tokens, do_sample: false, ignore_eos: true };
  const answer = server
    .post(`/predictions/${model}`, { inputs: 'Once', parameters }, leave.signal)
    .then((response) => response.text())
    .catch(() => '');
  return {
    end: async () => {
      leave.abort();
      await answer;
    },
  };
}

it('the saturated one yields until the other has nothing to do', async () => {
  const [busy, quiet] = [await pidOf('busy'), await pidOf('quiet')];
  const own = getPriority();
  expect([niceOf(busy), niceOf(quiet)]).toEqual([own, own]);
  const load = Array.from({ length: 3 }, () => ask('busy', 400));
  const other = ask('quiet', 400);
  if (canRaisePriority()) {
    await server.line(({ model, msg }) => msg === 'model yields the cores' && model === 'busy');
    expect([niceOf(busy), niceOf(quiet)]).toEqual([LOWEST_PRIORITY, own]);
    await other.end();
    await server.line(({ model, msg }) => msg === 'model yields no more' && model === 'busy');
  } else {
    await server.line(({ msg }) => msg.startsWith('a saturated model cannot yield the cores'));
    await other.end();
  }
  expect([niceOf(busy), niceOf(quiet)]).toEqual([own, own]);
  await Promise.all(load.map(({ end }) => end()));
});
