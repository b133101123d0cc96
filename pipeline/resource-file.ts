/**
 * A file that an operator needs: a vocabulary, a model. It is packed with the pipeline, and checksummed.
 *
 * In      a path; relative to the working folder
 * Out     its content, as whoever needs it likes it
 * Limits  MAX_RESOURCE_BYTES where it is read whole
 * Errors  ServingError CHECKPOINT_INVALID: it is not there
 */
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { ServingError } from '../proto/errors.js';

const MAX_RESOURCE_BYTES = 1024 * 1024 * 1024;

export class ResourceFile {
  readonly path: string;

  constructor(given: string) {
    this.path = path.resolve(given);
    if (!statSync(this.path, { throwIfNoEntry: false })?.isFile())
      throw new ServingError('CHECKPOINT_INVALID', `there is no file ${this.path}`);
  }

  bytes(): Uint8Array {
    const { size } = statSync(this.path);
    if (size > MAX_RESOURCE_BYTES) {
      const limit = `of at most ${MAX_RESOURCE_BYTES}`;
      throw new ServingError('CHECKPOINT_INVALID', `${this.path} has ${size} bytes, ${limit}`);
    }
    return readFileSync(this.path);
  }

  text(): string {
    return new TextDecoder('utf-8', { fatal: true }).decode(this.bytes());
  }

  /** Without what ends them; an empty last one is none. */
  lines(): string[] {
    const lines = this.text().split(/\r?\n/);
    if (lines.at(-1) === '') lines.pop();
    return lines;
  }

  json(): unknown {
    return JSON.parse(this.text()) as unknown;
  }
}

/** A file to be packed with the operator that gets it. */
export const file = (given: string): ResourceFile => new ResourceFile(given);
