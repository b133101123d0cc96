/** SERVING_FAIL_FAST: a model that has failed for good ends the server, with the exit code that containers are started again for. */
import { afterEach, describe, expect, it } from 'vitest';
import { allGone, ServerProcess } from '../support/server-process.js';

let server: ServerProcess | undefined;
afterEach(async () => {
  server?.kill('SIGKILL');
  await server?.exited;
});

describe('fail fast', () => {
  it('one death more than retry_threshold ends the server with 137, and its workers', async () => {
    server = await ServerProcess.start({ SERVING_FAIL_FAST: 'true', SERVING_RETRY_THRESHOLD: '0' });
    const pids = server.workerPids;
    process.kill(pids[0]!, 'SIGKILL');
    expect(await server.exited).toBe(137);
    expect(server.lines.some(({ msg }) => msg.startsWith('fail_fast is set and embedded has failed'))).toBe(
      true,
    );
    await allGone(pids);
  });

  it('is off unless it is asked for: the server answers that the model is not ready', async () => {
    server = await ServerProcess.start({ SERVING_RETRY_THRESHOLD: '0' });
    process.kill(server.workerPids[0]!, 'SIGKILL');
    await server.line(({ msg }) => msg.startsWith('model embedded has failed'));
    expect((await fetch(`${server.url}/ping`)).status).toBe(500);
    expect(await server.stop()).toBe(0);
  });
});
