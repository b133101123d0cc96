/**
 * A program that starts one child the way the server does, and waits for it.
 *
 * In      argv: the kind of child, the program it runs (of the unpacker: its own), a scratch folder
 * Out     a file `pid` in the scratch folder once the child is at work: written by the child, of the unpacker here
 */
import { readdirSync, readFileSync, renameSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { ChildLink } from '../../server/engines/child-link.js';
import { LimitedProcess } from '../../server/engines/llm/limited-process.js';
import { ensureShards } from '../../server/model-store/ensure-shards.js';
import { runStoreTask } from '../../server/model-store/run-store-task.js';

/** Reading so many zeros takes minutes; the file has no blocks. */
const SPARSE_BYTES = 2 ** 40;

const [, , kind, program = '', scratch = ''] = process.argv;

function tellChild(): void {
  const children = readdirSync('/proc/self/task').flatMap((task) =>
    readFileSync(`/proc/self/task/${task}/children`, 'utf8').trim().split(' ').filter(Boolean),
  );
  // Whole, or not there: it is waited for.
  writeFileSync(path.join(scratch, 'pid.part'), children[0]!);
  renameSync(path.join(scratch, 'pid.part'), path.join(scratch, 'pid'));
}

switch (kind) {
  case 'partitioner':
    await ensureShards({ program, partition: { folder: scratch, store: scratch, tp: 1, dtype: 'fp32' } });
    break;
  case 'unpacker': {
    writeFileSync(path.join(scratch, 'big'), '');
    truncateSync(path.join(scratch, 'big'), SPARSE_BYTES);
    const digest = { file: 'big', algorithm: 'sha256' as const, digest: '0'.repeat(64) };
    await runStoreTask({ task: 'verify', folder: scratch, files: [digest] }, { onProgress: tellChild });
    break;
  }
  case 'tokenizer': {
    const limits = {
      memoryMb: 64,
      startMs: 600_000,
      limitCode: 'TOKENIZER_LIMIT',
      what: 'child',
      over: 'child',
    } as const;
    await new LimitedProcess({ program, ...limits }, { task: {}, limitMs: 600_000 }).start();
    break;
  }
  case 'handler': {
    const link = await ChildLink.start({ program, what: 'child', remedy: '' });
    await link.failed;
    break;
  }
  default:
    throw new Error(`no child ${kind}`);
}
