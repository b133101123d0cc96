/** The code base checks itself: import rules, file shape, leftovers, and documentation that is made from tables. */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { keyTableMarkdown } from '../../server/config/keys-markdown.js';
import { CLIENT_CASES } from '../clients/client-cases.js';
import { conformanceSummary, rowOf, SUMMARY_END, SUMMARY_START } from '../clients/conformance-table.js';
import { forbiddenImports, importCircles, importsOf, unusedRules } from './import-rules.js';
import {
  ARCHITECTURES_END,
  ARCHITECTURES_FILE,
  ARCHITECTURES_START,
  renderArchitectureTable,
} from './render-architecture-table.js';
import { BODIES_END, BODIES_FILE, BODIES_START, renderBodyTable } from './render-body-table.js';
import { ERRORS_END, ERRORS_FILE, ERRORS_START, renderErrorTable } from './render-error-table.js';
import { FAMILIES_END, FAMILIES_FILE, FAMILIES_START, renderFamilyTable } from './render-family-table.js';
import { filesUnder, PRODUCT_FOLDERS, productFiles, ROOT, readText } from './repository.js';

const MAX_LINES = 400;

/** Files whose job it is to print to the terminal: the command line, its bootstrap and the partitioner's program. */
const PRINTERS = [
  'server/shardserve.mjs',
  'server/bootstrap.mjs',
  'partitioner/main.ts',
  'server/cache-command.ts',
  'server/gpu/gpu-command.ts',
  'server/doctor.ts',
];

describe('import rules', () => {
  it('every import of product code is an edge of the picture in the README', () => {
    const files = productFiles();
    expect(files.length).toBeGreaterThan(10);
    expect(files.flatMap((file) => forbiddenImports(file, readText(file)))).toEqual([]);
  });

  it('the picture has no edge that no file uses', () => {
    expect(unusedRules(new Map(productFiles().map((file) => [file, readText(file)])))).toEqual([]);
  });

  it('finds a forbidden edge in each way of importing', () => {
    const bad = [
      "import { x } from '../../shard-worker/executor.js';",
      "import type { X } from '../http/server.js';",
      "export * from '../main.js';",
      "const late = await import('../../partitioner/plan/plan.js');",
      "import '../../test/fixtures/x.js';",
    ];
    for (const line of bad) expect(forbiddenImports('server/jobs/job.ts', line), line).toHaveLength(1);
  });

  it('allows an edge of the picture, and packages', () => {
    const good =
      "import { z } from '../../proto/errors.js';\nimport { y } from './job-queue.js';\nimport fs from 'node:fs';";
    expect(importsOf('server/jobs/job.ts', good)).toHaveLength(2);
    expect(forbiddenImports('server/jobs/job.ts', good)).toEqual([]);
  });

  it('no file imports itself by way of others', () => {
    expect(importCircles(new Map(productFiles().map((file) => [file, readText(file)])))).toEqual([]);
  });

  it('finds a circle, also of types and over three files', () => {
    const files = new Map([
      ['server/a.ts', "import { b } from './b.js';"],
      ['server/b.ts', "import type { C } from './c.js';"],
      ['server/c.ts', "export * from './a.js';"],
      ['server/d.ts', "import './a.js';"],
    ]);
    expect(importCircles(files)).toEqual([['server/a.ts', 'server/b.ts', 'server/c.ts']]);
  });

  it('reads an import that is spread over lines', () => {
    const spread = "import {\n  a,\n  b,\n} from '../server/main.js';";
    expect(forbiddenImports('proto/errors.ts', spread)).toEqual([
      'proto/errors.ts:4 imports server/main.js: proto may import nothing, not server',
    ]);
  });
});

describe('files', () => {
  it(`no product file has more than ${MAX_LINES} lines`, () => {
    const long = productFiles()
      .map((file) => ({ file, lines: readText(file).trimEnd().split('\n').length }))
      .filter(({ lines }) => lines > MAX_LINES);
    expect(long).toEqual([]);
  });

  it('every product file opens with a comment that says what it does', () => {
    const bare = productFiles().filter((file) => !/^(?:#![^\n]*\n)?\/\*\*/.test(readText(file)));
    expect(bare).toEqual([]);
  });

  it('files of the product, the benchmark and the tests are named in kebab-case', () => {
    const files = [
      ...productFiles(),
      ...['bench', 'test'].flatMap((top) => filesUnder(top, ['.ts', '.mjs'])),
    ];
    const odd = files.filter(
      (file) => !/^[a-z0-9-]+(?:\.(?:test|suite))?\.(?:ts|mjs)$/.test(path.basename(file)),
    );
    expect(odd).toEqual([]);
  });

  it('there is no folder called src, common or utils', () => {
    const vague = ['src', 'common', 'utils', 'util', 'helpers', 'lib'];
    const folders = [...PRODUCT_FOLDERS, 'test'].flatMap((top) =>
      readdirSync(path.join(ROOT, top), { withFileTypes: true, recursive: true })
        .filter((entry) => entry.isDirectory() && vague.includes(entry.name))
        .map((entry) => path.join(entry.parentPath, entry.name)),
    );
    expect(folders).toEqual([]);
  });

  it('tests of integration lie in the folder of their subject, and fixtures touch nothing outside the process', () => {
    const loose = filesUnder('test/integration', ['.ts']).filter((file) => file.split('/').length === 3);
    expect(loose, 'test/README.md says which folder').toEqual([]);
    const outside = /'node:(?:fs|child_process|net|http|worker_threads|os)\b/;
    expect(filesUnder('test/fixtures', ['.ts']).filter((file) => outside.test(readText(file)))).toEqual([]);
  });

  it('no marker of unfinished work and no print statement is left in product code', () => {
    const marker = /\b(?:TODO|FIXME|XXX|HACK)\b/;
    const print = /\bconsole\.|\bdebugger\b/;
    const found = productFiles().flatMap((file) =>
      readText(file)
        .split('\n')
        .flatMap((line, index) => {
          const isLeft = marker.test(line) || (print.test(line) && !PRINTERS.includes(file));
          return isLeft ? [`${file}:${index + 1} ${line.trim()}`] : [];
        }),
    );
    expect(found).toEqual([]);
  });

  it('no test is skipped or runs alone', () => {
    const pattern = /\b(?:it|test|describe)\.(?:only|skip|todo)\b/;
    // This file holds the pattern itself.
    const files = filesUnder('test', ['.test.ts', '.suite.ts']).filter(
      (file) => file !== 'test/tidy/tidy.test.ts',
    );
    expect(files.filter((file) => pattern.test(readText(file)))).toEqual([]);
  });
});

describe('documentation made from tables', () => {
  const howTo = 'differs from its table: run `npm run build && npm run docs`';

  it('server/config/KEYS.md lists the key table', () => {
    expect(readText('server/config/KEYS.md') === keyTableMarkdown(), `KEYS.md ${howTo}`).toBe(true);
  });

  it('ERRORS.md lists the error table', () => {
    const [, listed] = readText(ERRORS_FILE).split(`${ERRORS_START}\n`);
    expect(listed?.split(ERRORS_END)[0] === renderErrorTable(), `${ERRORS_FILE} ${howTo}`).toBe(true);
  });

  it('server/http/README.md lists how long bodies may be', () => {
    const [, listed] = readText(BODIES_FILE).split(`${BODIES_START}\n`);
    expect(listed?.split(BODIES_END)[0] === renderBodyTable(), `${BODIES_FILE} ${howTo}`).toBe(true);
  });

  it('CONFORMANCE.md has every operation of every client, each asked, and the README its sum', () => {
    const table = readText('test/clients/CONFORMANCE.md');
    const rows = table.split('\n').filter((line) => line.startsWith('| '));
    const expected = CLIENT_CASES.flatMap((client) =>
      Object.keys(client.operations).map((operation) => rowOf(client, operation, 'right')),
    );
    expect(rows.slice(1)).toEqual(expected);
    const [, listed] = readText('README.md').split(`${SUMMARY_START}\n`);
    expect(listed?.split(SUMMARY_END)[0]).toBe(conformanceSummary(table));
  });

  it('FAMILIES.md lists families, goldens and the sizes that the plan gives', async () => {
    const [, listed] = readText(FAMILIES_FILE).split(`${FAMILIES_START}\n`);
    const isSame = listed?.split(FAMILIES_END)[0] === (await renderFamilyTable());
    expect(isSame, `${FAMILIES_FILE} ${howTo}`).toBe(true);
    // Some five hundred plans.
  }, 240_000);

  it('ARCHITECTURES.md says what becomes of every architecture', async () => {
    const [, listed] = readText(ARCHITECTURES_FILE).split(`${ARCHITECTURES_START}\n`);
    const isSame = listed?.split(ARCHITECTURES_END)[0] === (await renderArchitectureTable());
    expect(isSame, `${ARCHITECTURES_FILE} ${howTo}`).toBe(true);
  });

  it('every npm command that the README names exists', () => {
    const { scripts } = JSON.parse(readText('package.json')) as { scripts: Record<string, string> };
    const named = [...readText('README.md').matchAll(/\bnpm run ([a-z][a-z:-]*)/g)].map((match) => match[1]!);
    expect(named.filter((name) => !(name in scripts))).toEqual([]);
  });
});
