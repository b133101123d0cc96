/**
 * `shardserve pipeline serve-stdio PACK`, and what a pack holds: `shardserve pipeline show PACK`.
 *
 * In      arguments
 * Out     frames (serve-stdio.ts); a line an operator
 * Errors  CONFIG_INVALID: arguments; CHECKPOINT_INVALID: the pack
 */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { ServingError } from '../proto/errors.js';
import { stateOf } from './op.js';
import { load } from './pack.js';
import { serveStdio } from './serve-stdio.js';

const USAGE = `Usage: shardserve pipeline serve-stdio PACK [--threads N]   answer frames of standard input (python/shardserve_pipeline.py asks)
       shardserve pipeline show PACK                        feeds and operators of a pack`;

export async function main(argv: readonly string[]): Promise<number> {
  const { positionals, values } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: { threads: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
  });
  const [command, pack, surplus] = positionals;
  if (values.help === true || pack === undefined || surplus !== undefined) {
    process.stderr.write(`${USAGE}\n`);
    return values.help === true ? 0 : 2;
  }
  if (command === 'show') {
    const { graph } = await load(pack);
    const lines = graph.nodes.map(({ op }, at) => `${at} ${stateOf(op).kind.name}`);
    process.stdout.write(`feeds: ${graph.feeds.join(', ')}\n${lines.join('\n')}\n`);
    return 0;
  }
  if (command !== 'serve-stdio')
    throw new ServingError('CONFIG_INVALID', `There is no pipeline ${command}\n${USAGE}`);
  const threads = Number(values.threads ?? Math.min(4, availableParallelism()));
  if (!Number.isInteger(threads) || threads < 1 || threads > 256)
    throw new ServingError(
      'CONFIG_INVALID',
      `--threads is ${values.threads}; it must be a whole number from 1 to 256`,
    );
  await serveStdio(pack, threads, process.stdin, process.stdout);
  return 0;
}
