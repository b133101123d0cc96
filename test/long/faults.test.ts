/** Every fault × state × way of asking × way of joining ranks, requests under kills, and ten minutes of soak. By hand: npm run faults, npm run soak. */
import { expect, it } from 'vitest';
import { COLLECTIVES, FAULTS, FaultMatrix, STATES } from '../faults/fault-matrix.js';
import { renderFaults } from '../faults/fault-table.js';
import { KILL_RUN_ENVIRONMENT, killRun } from '../faults/kill-run.js';
import { grownIn, soak } from '../faults/soak.js';
import { ServerProcess } from '../support/server-process.js';

it('every request has the answer of an undisturbed run, whatever happens to the ranks meanwhile', async () => {
  const results = [];
  for (const collective of COLLECTIVES) {
    const matrix = await FaultMatrix.start(collective, 2);
    try {
      for (const fault of FAULTS) for (const state of STATES) results.push(await matrix.run(fault, state));
    } finally {
      await matrix.stop();
    }
  }
  console.info(renderFaults(results));
  const bad = results.filter(({ doubled, problems }) => doubled > 0 || problems.length > 0);
  expect(bad).toEqual([]);
});

it('of 10,000 requests under a kill every two seconds none is lost and none is wrong', async () => {
  const server = await ServerProcess.start(KILL_RUN_ENVIRONMENT);
  try {
    const result = await killRun(server, { requests: 10_000, clients: 16, killEveryMs: 2000 });
    console.info(result);
    expect(result).toMatchObject({ lost: 0, wrong: 0, problems: [] });
    expect(result.kills).toBeGreaterThan(10);
  } finally {
    await server.stop();
  }
});

it('nothing grows in ten minutes of mixed load, models that come and go, and faults; a leak of ten megabytes is seen', async () => {
  const result = await soak({ minutes: 10, faultEverySeconds: 60 });
  console.info(result);
  expect(result).toMatchObject({ wrong: 0, problems: [] });
  expect(grownIn(result)).toEqual([]);
  expect(grownIn({ early: result.late, late: result.leaking })).not.toEqual([]);
});
