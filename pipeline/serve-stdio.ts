/**
 * `shardserve pipeline serve-stdio PACK`: a pack for a training loop, which asks it by its standard input.
 *
 * In      frames {"feeds": {…}, "mode": "train" | "eval", "seed": n}; --threads N
 * Out     a frame each, in order: {"output": …}, or {"error": sentence}
 * Limits  AHEAD frames are taken before the first of them is answered
 * Errors  CHECKPOINT_INVALID: the pack is refused; a frame that is none ends the program
 *
 * What it answers is what the pack answers when it is served, to the byte.
 */
import { once } from 'node:events';
import { ServingError } from '../proto/errors.js';
import type { Feeds } from './pipeline.js';
import { PipelinePool } from './pipeline-pool.js';
import type { RunMode } from './run-mode.js';
import { type Frame, frameOf, framesIn } from './value-frame.js';

const AHEAD = 64;

/** @param output of the process */
export async function serveStdio(
  pack: string,
  threads: number,
  input: AsyncIterable<Uint8Array>,
  output: NodeJS.WritableStream,
): Promise<void> {
  const pool = await PipelinePool.open(pack, { threads });
  const answers: Promise<Buffer>[] = [];
  let wake = (): void => {};
  let hasEnded = false;
  const writing = (async () => {
    for (;;) {
      const next = answers.shift();
      if (next === undefined) {
        if (hasEnded) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        continue;
      }
      if (!output.write(await next)) await once(output, 'drain');
      wake();
    }
  })();
  try {
    for await (const frame of framesIn(input)) {
      answers.push(answerTo(frame, pool));
      wake();
      while (answers.length >= AHEAD) {
        const before = wake;
        await new Promise<void>((resolve) => {
          wake = () => {
            before();
            resolve();
          };
        });
      }
    }
  } finally {
    hasEnded = true;
    wake();
    await writing;
    await pool.close();
  }
}

async function answerTo({ feeds, mode, seed }: Frame, pool: PipelinePool): Promise<Buffer> {
  try {
    const how: RunMode = {
      ...(mode === 'train' && { mode }),
      ...(typeof seed === 'number' && { seed }),
    };
    return frameOf({ output: await pool.run((feeds ?? {}) as Feeds, how) });
  } catch (error) {
    return frameOf({ error: ServingError.from(error).message });
  }
}
