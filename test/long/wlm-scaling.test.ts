/** Worker groups that follow the load, with 5,000 requests whose answers are known. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type KnownAnswer, knownAnswers } from '../support/known-answers.js';
import { runScalingLoad, SCALING_ENVIRONMENT } from '../support/scaling-load.js';
import { ServerProcess } from '../support/server-process.js';

let answers: KnownAnswer[];
let server: ServerProcess;

beforeAll(async () => {
  answers = await knownAnswers(5000, 8);
  server = await ServerProcess.start(SCALING_ENVIRONMENT);
});
afterAll(async () => {
  server?.kill('SIGKILL');
  await server?.exited;
});

it('one to three groups rise and fall; 5,000 requests: none lost, none twice, none swapped; refusals are exact', async () => {
  const report = await runScalingLoad(server, answers, 10);
  expect(report.answered).toBe(5000);
  expect(report.refused).toBeGreaterThan(0);
  console.info(`${report.refused} refused; groups running by second: ${JSON.stringify(report.waves)}`);
  expect(await server.stop()).toBe(0);
});
