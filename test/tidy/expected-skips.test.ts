/** A skip that nobody expects is a failure of the run. */
import { pathToFileURL } from 'node:url';
import { expect, it } from 'vitest';
import { repositoryRoot } from '../support/repository-root.js';

interface ExpectedSkips {
  unexpectedSkips(skipped: readonly { file: string; name: string }[]): string[];
}

it('names each skip that is not expected on this machine, and no other', async () => {
  const file = pathToFileURL(`${repositoryRoot}/test/expected-skips.mjs`).href;
  const { unexpectedSkips } = (await import(file)) as ExpectedSkips;
  const skipped = [
    { file: '/x/dist/test/real/real-model.test.js', name: 'a real model answers' },
    { file: '/x/dist/test/unit/proto/errors.test.js', name: 'errors have statuses' },
  ];
  expect(unexpectedSkips(skipped)).toEqual([
    'skipped, which nobody expects on this machine: unit/proto/errors.test.js: errors have statuses',
  ]);
});
