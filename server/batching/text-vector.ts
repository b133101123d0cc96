/**
 * A running text of an embedding model on the server: one row, all of its tokens, and the vector that comes back.
 *
 * In      a job and its slot; one RowResult
 * Out     the VectorEvent and the FinishEvent on the job's stream
 * Errors  assertions
 */
import assert from 'node:assert/strict';
import type { RowResult, SequenceOpen } from '../../proto/control.js';
import type { GenerationJob, VectorShape } from '../jobs/generation-job.js';
import { type FinishReason, finishWithoutText } from '../requests/job-events.js';
import type { RunningSequence } from './batcher.js';
import type { RowParts } from './sequence.js';

export class TextVector implements RunningSequence {
  readonly job: GenerationJob;
  readonly slot: number;
  /** Unique in the life of the group. */
  readonly sequence: number;
  promptLeft: number;
  readonly decodesLeft = 0;
  readonly held = false;
  readonly newTokens = 0;
  readonly mostDrafts = 0;
  /** null while it runs. */
  finish: FinishReason | null = null;

  constructor(job: GenerationJob, slot: number, sequence: number) {
    this.job = job;
    this.slot = slot;
    this.sequence = sequence;
    this.promptLeft = job.promptIds.length;
  }

  /** Rows of it that are there once all planned steps have run; none is kept. */
  get plannedRows(): number {
    return this.job.promptIds.length - this.promptLeft;
  }

  open(): SequenceOpen {
    const { job, sequence, slot } = this;
    const { maxNewTokens, promptIds, sampling, secondTextAt } = job;
    return {
      ...{ slot, sequence, promptIds: [...promptIds], maxNewTokens, endIds: [], sampling },
      ...(secondTextAt === null ? {} : { secondTextAt }),
    };
  }

  plan(tokens: number): RowParts {
    assert.equal(tokens, this.promptLeft, 'a text runs whole, in one step');
    this.promptLeft = 0;
    return {};
  }

  append({ vector }: RowResult): void {
    const { promptIds, stream, vectorShape } = this.job;
    assert(this.finish === null && vectorShape !== null, 'a running text gets its vector once');
    this.finish = 'length';
    stream.push({ kind: 'vector', vector: shortened(vector, vectorShape) });
    stream.push(finishWithoutText(promptIds.length));
    stream.end();
  }
}

/** The first numbers of a vector that was trained to be cut; of length 1 again where the whole one is, or where it shall be. */
function shortened(
  vector: readonly number[],
  { dimensions, normalise, normalised }: VectorShape,
): readonly number[] {
  if (dimensions === null) return vector;
  const isWhole = dimensions === vector.length;
  if (isWhole && (normalised || !normalise)) return vector;
  const cut = isWhole ? vector : vector.slice(0, dimensions);
  const length = normalised || normalise ? Math.hypot(...cut) : 1;
  return length > 0 ? cut.map((value) => value / length) : cut;
}
