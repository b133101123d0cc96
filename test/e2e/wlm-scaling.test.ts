/** Worker groups that follow the load, with 500 requests whose answers are known; test/long has ten times as many. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type KnownAnswer, knownAnswers } from '../support/known-answers.js';
import { runScalingLoad, SCALING_ENVIRONMENT } from '../support/scaling-load.js';
import { ServerProcess } from '../support/server-process.js';

let answers: KnownAnswer[];
let server: ServerProcess;

beforeAll(async () => {
  answers = await knownAnswers(500, 8);
  server = await ServerProcess.start(SCALING_ENVIRONMENT);
});
afterAll(async () => {
  server?.kill('SIGKILL');
  await server?.exited;
});

it('one to three groups rise and fall; 500 requests: none lost, none twice, none swapped; refusals are exact', async () => {
  const report = await runScalingLoad(server, answers, 2);
  expect(report.answered).toBe(500);
  expect(report.refused).toBeGreaterThan(0);
  for (const changes of report.waves) expect(changes.length).toBeGreaterThanOrEqual(4);
  expect(await server.stop()).toBe(0);
});
