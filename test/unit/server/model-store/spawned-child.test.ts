/** A process that has no descriptor left for a child: the call fails, the process goes on. */
import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';

const moduleUrl = (file: string): string => new URL(`../../../../server/${file}`, import.meta.url).href;

/** Takes every free descriptor, then makes each call that starts a child. */
const SCRIPT = `
  import { openSync } from 'node:fs';
  const { ensureShards } = await import('${moduleUrl('model-store/ensure-shards.js')}');
  const { runStoreTask } = await import('${moduleUrl('model-store/run-store-task.js')}');
  const { OnnxChild } = await import('${moduleUrl('engines/onnx/onnx-child.js')}');
  const { ChatRenderer } = await import('${moduleUrl('engines/llm/chat-renderer.js')}');
  try { for (;;) openSync('/dev/null'); } catch {}
  const request = { program: 'none.js', modelFolder: '/', shardStore: '/', tensorParallelDegree: 1, dtype: 'fp32',
    blockSize: null, symmetric: true, scales: 'max', eightBit: [], reproducibleDegree: 1 };
  const told = [];
  for (const call of [() => ensureShards(request), () => runStoreTask({ task: 'unpack' }),
    () => ChatRenderer.start({}), () => OnnxChild.start('/none', {}, 1000, new AbortController().signal)]) {
    await call().catch(({ code, message }) => told.push({ code, message }));
  }
  process.stdout.write(JSON.stringify(told));
`;

it('says which process could not be started, and lives', () => {
  const { stderr, stdout } = spawnSync(
    'sh',
    ['-c', 'ulimit -n 1024 && exec "$0" --input-type=module -e "$1"', process.execPath, SCRIPT],
    { encoding: 'utf8' },
  );
  expect(stderr).toBe('');
  expect(JSON.parse(stdout)).toEqual([
    {
      code: 'WORKER_FAILED',
      message: expect.stringMatching(/^The partitioner could not be started: .*EMFILE/),
    },
    {
      code: 'WORKER_FAILED',
      message: expect.stringMatching(/^The unpack process could not be started: .*EMFILE/),
    },
    {
      code: 'WORKER_FAILED',
      message: expect.stringMatching(
        /^The process of the model's chat template could not be started: .*EMFILE/,
      ),
    },
    {
      code: 'WORKER_FAILED',
      message: expect.stringMatching(/^The process of the ONNX model could not be started: .*EMFILE/),
    },
  ]);
});
