/** The reader of the Dockerfile: what it understands it gives whole, and nothing else does it let pass. */
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import { repositoryRoot } from '../../support/repository-root.js';

interface Reader {
  readDockerfile(
    text: string,
    given?: { args?: Record<string, string>; bases?: Record<string, unknown> },
  ): Record<string, unknown>[];
  ignoredBy(text: string): (relative: string) => boolean;
}

const { ignoredBy, readDockerfile } = (await import(
  pathToFileURL(`${repositoryRoot}/docker/dockerfile.mjs`).href
)) as Reader;

describe('a Dockerfile', () => {
  it('is read as stages with their steps and settings', () => {
    const stages = readDockerfile(`# syntax=docker/dockerfile:1
FROM node:22 AS build
WORKDIR /opt/x
COPY a.json b.json ./
RUN one && \\
    # a comment between
    two

FROM node:22-slim
COPY --from=build /opt/x ./
ENV A=1 \\
    B="two words"
VOLUME ["/data", "/logs"]
USER node
EXPOSE 8080
HEALTHCHECK --interval=15s --retries=4 \\
  CMD ["node", "-e", "1"]
ENTRYPOINT ["node", "main.mjs"]
CMD ["start"]
`);
    expect(stages).toEqual([
      expect.objectContaining({
        ...{ base: 'node:22', name: 'build', workdir: '/opt/x' },
        steps: [
          { kind: 'workdir', folder: '/opt/x' },
          { kind: 'copy', from: null, sources: ['a.json', 'b.json'], target: './' },
          { kind: 'run', command: 'one && two' },
        ],
      }),
      {
        ...{ base: 'node:22-slim', name: null, workdir: '/', user: 'node' },
        steps: [
          { kind: 'copy', from: 'build', sources: ['/opt/x'], target: './' },
          { kind: 'env', values: { A: '1', B: 'two words' } },
        ],
        env: { A: '1', B: 'two words' },
        ...{ volumes: ['/data', '/logs'], ports: [8080], healthcheck: ['node', '-e', '1'] },
        ...{ entrypoint: ['node', 'main.mjs'], cmd: ['start'] },
      },
    ]);
  });

  it('begins with the settings of its base, and has the build’s arguments', () => {
    const [base] = readDockerfile('FROM node:22\nWORKDIR /opt/x\nENV A=1\nUSER node\nCMD ["start"]');
    const text =
      'ARG BASE=ours\nFROM $\x7bBASE} AS one\nUSER root\nARG INDEX\nARG B=2\nRUN x\nFROM one\nENV C=3';
    const [one, last] = readDockerfile(text, { args: { INDEX: 'http://index' }, bases: { ours: base } });
    expect(one).toMatchObject({
      ...{ base: 'ours', user: 'root', workdir: '/opt/x', env: { A: '1' }, cmd: ['start'] },
      steps: [
        { kind: 'arg', values: { INDEX: 'http://index' } },
        { kind: 'arg', values: { B: '2' } },
        { kind: 'run', command: 'x' },
      ],
    });
    expect(last).toMatchObject({ base: 'one', user: 'root', env: { A: '1', C: '3' } });
    expect(() => readDockerfile('FROM $\x7bBASE}')).toThrow('there is no ARG BASE= before it');
  });

  it.each([
    ['FROM a\nSHELL ["bash"]', 2, 'this instruction is not known here'],
    ['FROM a\nRUN --mount=type=cache,target=/x y', 2, 'the shell form without flags is wanted'],
    ['FROM a\nENV A=$B', 2, 'NAME=value without variables is wanted'],
    ['FROM a\nCOPY --chown=node . .', 2, 'COPY [--from=stage] source… target'],
    ['FROM a\nCMD start', 2, 'a JSON list of strings is wanted'],
    ['RUN x', 1, 'there is no FROM before it'],
  ])('of which something is not understood is refused: %s', (text, line, why) => {
    expect(() => readDockerfile(text)).toThrow(`Dockerfile line ${line}: ${why}`);
  });

  it('leaves out what its .dockerignore names', () => {
    const isIgnored = ignoredBy('.git\nmodels/training\n**/node_modules\n');
    const paths = ['.git/HEAD', 'models/training/x', 'a/node_modules/b', 'models/embedded', '.gitignore'];
    expect(paths.filter(isIgnored)).toEqual(['.git/HEAD', 'models/training/x', 'a/node_modules/b']);
    expect(() => ignoredBy('!keep')).toThrow('this pattern is not known here: !keep');
  });
});
