/** Every command says what it takes, and an option that it does not know is told in a line. */
import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { repositoryRoot } from '../../support/repository-root.js';

const run = (...argv: string[]) =>
  spawnSync(process.execPath, ['server/shardserve.mjs', ...argv], { cwd: repositoryRoot, encoding: 'utf8' });

it.each(['start', 'key', 'archive', 'cache', 'partition', 'tune', 'benchmark', 'doctor', 'gpu', 'pipeline'])(
  '%s --help',
  (command) => {
    const { status, stderr, stdout } = run(command, '--help');
    expect({ status, usage: (stdout || stderr).split('\n')[0] }).toEqual({
      status: 0,
      usage: expect.stringMatching(new RegExp(`^Usage: .*(?:shardserve ${command}|npm start)`)),
    });
  },
);

it('an unknown option is a line', () => {
  const { status, stderr } = run('key', '--nonsense');
  expect({ status, stderr }).toEqual({
    status: 2,
    stderr: expect.stringMatching(/^shardserve key: Unknown option '--nonsense'.*\n$/),
  });
});
