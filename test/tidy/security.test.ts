/** What SECURITY.md and test/DEFECTS.md promise and the sources must hold: their tables, no text that becomes code, licences of what is shipped. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { productFiles, ROOT, readText } from './repository.js';

interface Row {
  what: string;
  kept: string[];
}

function rowsBelow(file: string, head: string): Row[] {
  const [, table = ''] = readText(file).split(`| ${head} |\n|---|---|\n`);
  const lines = table.split('\n');
  return lines.slice(0, lines.indexOf('')).map((line) => {
    const [, what = '', kept = ''] = line.split(/ ?\| ?/);
    return { what, kept: kept.split('<br>') };
  });
}

describe.each([
  ['SECURITY.md', 'What it taught | Kept by', 22],
  ['test/DEFECTS.md', 'What was wrong | Held by', 26],
  ['test/DEFECTS.md', 'What was found later | Held by', 10],
  ['test/DEFECTS.md', 'What it bears | Held by', 8],
])('the table of %s, "%s"', (file, head, least) => {
  it('has a test that there is, or a reason, for each', () => {
    const all = rowsBelow(file, head);
    expect(all.length).toBeGreaterThanOrEqual(least);
    const wrong = all.flatMap(({ kept, what }) =>
      kept.flatMap((one) => {
        if (/^Does not apply[^:]*: .{20}/.test(one)) return [];
        const [, test = '', name = ''] = /^`(test\/[^`]+)`: (.+)$/.exec(one) ?? [];
        if (!existsSync(path.join(ROOT, test)) || test === '') return [`${what}: ${one}: no such file`];
        return readText(test).includes(name) ? [] : [`${what}: ${test} has no test "${name}"`];
      }),
    );
    expect(wrong).toEqual([]);
  });
});

describe('the defects', () => {
  it('are told one by one, by their numbers', () => {
    const rows = rowsBelow('test/DEFECTS.md', 'What was wrong | Held by');
    expect(rows.map(({ what }) => Number.parseInt(what, 10))).toEqual(rows.map((_, index) => index + 1));
  });
});

/** Where code is made of data because that is what the file is for. */
const MAKE_CODE: Readonly<Record<string, string>> = {
  'pipeline/script.ts': "a class of the user's own pack, which is code",
  'server/engines/llm/limited-task.ts':
    'structured clones between a process and its own child: no code is in them',
};

describe('sources', () => {
  it('no text becomes code but where it is said', () => {
    const maker = /\beval\s*\(|\bnew Function\b|\bnode:vm\b|from 'vm'|\bdeserialize\(|pickle\.load/;
    const found = productFiles().filter((file) =>
      readText(file)
        .split('\n')
        .some((line) => maker.test(line) && !/^\s*(?:\*|\/\/)/.test(line)),
    );
    expect(found.filter((file) => !(file in MAKE_CODE))).toEqual([]);
  });

  it('keys are compared in constant time', () => {
    const comparing = productFiles().filter((file) =>
      /\bdigest\b[^\n]*(?:===|!==|\.equals\()/.test(readText(file)),
    );
    expect(comparing.filter((file) => file.startsWith('server/access/'))).toEqual([]);
    expect(readText('server/access/access-control.ts')).toContain('timingSafeEqual(key.digest, digest)');
  });
});

const ALLOWED = [
  'MIT',
  'Apache-2.0',
  'ISC',
  'BSD-2-Clause',
  'BSD-3-Clause',
  '0BSD',
  'BlueOak-1.0.0',
  'MPL-2.0',
  'CC0-1.0',
  'Unlicense',
  'Python-2.0',
  'Zlib',
];
/** A library that is linked to as it is, replaceable: its licence asks for no more. */
const LINKED = 'LGPL-3.0-or-later';

describe('packages', () => {
  it('every package that is shipped has a licence that allows it', () => {
    const { packages } = JSON.parse(readText('package-lock.json')) as {
      packages: Record<string, { dev?: boolean; devOptional?: boolean; license?: string }>;
    };
    const isAllowed = (license: string): boolean =>
      license
        .replace(/[()]/g, '')
        .split(' OR ')
        .some((one) => one.split(' AND ').every((part) => [...ALLOWED, LINKED].includes(part.trim())));
    const wrong = Object.entries(packages).flatMap(([at, { dev, devOptional, license = 'none' }]) =>
      at === '' || dev === true || devOptional === true || isAllowed(license) ? [] : [`${at}: ${license}`],
    );
    expect(wrong).toEqual([]);
  });
});
