/** What is written between the code: it cites what a reader has. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import { filesUnder, PRODUCT_FOLDERS, ROOT, readText } from './repository.js';

const EXTENSIONS = ['.ts', '.mjs', '.md', '.cpp', '.h', '.proto', '.py'];
const TEXTS = [
  ...['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md', 'LIMITS.md'],
  ...[...PRODUCT_FOLDERS, 'bench', 'docker', 'test'].flatMap((folder) => filesUnder(folder, EXTENSIONS)),
];
/** This file holds the patterns themselves. */
const OWN = 'test/tidy/prose.test.ts';

/** Lines of the texts that match, as `file:line text`. */
function linesLike(pattern: RegExp, files: readonly string[] = TEXTS): string[] {
  return files
    .filter((file) => file !== OWN)
    .flatMap((file) =>
      readText(file)
        .split('\n')
        .flatMap((line, index) =>
          pattern.test(line) ? [`${file}:${index + 1} ${line.trim().slice(0, 120)}`] : [],
        ),
    );
}

describe('what is written', () => {
  it('cites no document that is not in the repository', () => {
    const absent =
      /\bdesign (?:D\d|§)|\bdesign\.md\b|\bthe design\b|\breference (?:§|serving-apis)|\breference\/[\w-]+\.md|\bthe reference, §|\b[Ii]ssue \d+/;
    expect(linesLike(absent)).toEqual([]);
  });

  it('has a subject: no comment begins with what something is of', () => {
    // A changed comment of the kernels asks for their build by the pinned compiler: there it waits for a change of the code.
    const files = TEXTS.filter((file) => !/^shard-worker\/kernels\/.*\.(?:h|cpp)$/.test(file));
    expect(linesLike(/(?:\/\/|^\s*\*|\/\*\*) Of [a-z]/, files)).toEqual([]);
  });
});

describe('the documents of the root', () => {
  const files = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'LIMITS.md', 'docker/README.md'];

  it('have lines below 160 characters, but for rows of tables; so has every README', () => {
    const readmes = TEXTS.filter((file) => file.endsWith('/README.md'));
    expect(linesLike(/^(?!\|).{160}/u, [...new Set([...files, ...readmes])])).toEqual([]);
  });

  it('have whole rows of tables', () => {
    expect(linesLike(/^\|.*[^|\s]\s*$/, files)).toEqual([]);
  });

  it('name files that there are', () => {
    const named = files.flatMap((file) => {
      const linked = [...readText(file).matchAll(/\]\(([\w./-]+)\)/g)].map(([, to]) =>
        path.join(path.dirname(file), to!),
      );
      const quoted = [
        ...readText(file).matchAll(
          /`((?:proto|partitioner|shard-worker|server|test|docker|bench)\/[\w./-]+)`/g,
        ),
      ];
      return [...linked, ...quoted.map(([, to]) => to!)].map((to) => `${file}: ${to}`);
    });
    expect(named.length).toBeGreaterThan(50);
    expect(named.filter((one) => !existsSync(path.join(ROOT, one.split(': ')[1]!)))).toEqual([]);
  });
});

describe('what somebody had and does now', () => {
  const lines = readText('README.md').split('\n');
  const start = lines.findIndex((line) => line.startsWith('| You had |')) + 2;
  const rows = lines.slice(start, lines.indexOf('', start)).map((line) => line.split(' | '));

  it('is held by a test in each row, of the name given', () => {
    const named = rows.flatMap((cells) => {
      const found = [...cells.at(-1)!.matchAll(/`(test\/[\w/.-]+)`: ([^;|]+?)(?=;| \|)/g)];
      expect([cells[0], found.length > 0]).toEqual([cells[0], true]);
      return found.map(([, file = '', words = '']) => ({ file, words }));
    });
    expect(rows.length).toBeGreaterThan(8);
    const absent = named.filter(
      ({ file, words }) =>
        !readText(file)
          .split('\n')
          .some((line) => opens(line, words)),
    );
    expect(absent).toEqual([]);
  });

  /** The line opens a test, or each row of a table of them, whose name begins so. */
  const opens = (line: string, words: string): boolean =>
    ['it(', ')('].some((call) => [`'`, '"', '`'].some((quote) => line.includes(call + quote + words)));
});

describe('classes', () => {
  it('keep to themselves by #, not by `private`; a constructor alone has no other way', () => {
    const files = TEXTS.filter((file) => file.endsWith('.ts'));
    expect(linesLike(/^\s*private (?!constructor)\w|[(,]\s*private readonly /, files)).toEqual([]);
  });
});

describe('the list of sources', () => {
  it('that a start compares with the build is what tsconfig.json compiles', async () => {
    const bootstrap = pathToFileURL(path.join(ROOT, 'server/bootstrap.mjs')).href;
    const { SOURCE_FOLDERS } = (await import(bootstrap)) as { SOURCE_FOLDERS: string[] };
    const { include } = JSON.parse(readText('tsconfig.json')) as { include: string[] };
    expect([...SOURCE_FOLDERS].sort()).toEqual(include.map((glob) => glob.replace('/**/*.ts', '')).sort());
  });
});
