/** server/model-store on archives: honest ones become folders, hostile ones nothing at all. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { releaseModel } from '../../../server/model-store/fetch-model.js';
import { runStoreTask } from '../../../server/model-store/run-store-task.js';
import { unpackArchive } from '../../../server/model-store/unpack-archive.js';
import {
  paxEntry,
  paxRecord,
  type TarEntry,
  tarBytes,
  type ZipEntry,
  zipBytes,
} from '../../support/model-store-bytes.js';
import { codeOf, failureOf, openStore, type Store } from '../../support/model-store-fixture.js';

let store: Store;
beforeEach(() => {
  store = openStore();
});
afterEach(() => store.remove());

const config: TarEntry & ZipEntry = { name: 'config.json', content: '{}' };

function put(name: string, bytes: Buffer): string {
  const file = path.join(store.scratch, name);
  writeFileSync(file, bytes);
  return file;
}

describe('honest archives', () => {
  const tree = [
    { name: 'my-model/', type: '5' },
    { ...config, name: 'my-model/config.json' },
  ] as const;
  const asZip = zipBytes([
    { name: 'my-model/', stored: true },
    { ...config, name: 'my-model/config.json' },
  ]);
  it.each([
    ['m.tar', tarBytes(tree)],
    ['m.tar.gz', gzipSync(tarBytes(tree))],
    ['m.tgz', gzipSync(tarBytes(tree))],
    ['m.zip', asZip],
  ])('%s becomes an owned folder that goes when it is released', async (name, bytes) => {
    const model = await store.fetch(put(name, bytes));
    expect(model).toMatchObject({ owned: true, suggestedName: 'm' });
    expect(readFileSync(path.join(model.folder, 'config.json'), 'utf8')).toBe('{}');
    expect(store.left()).toEqual([path.basename(model.folder), `${path.basename(model.folder)}/config.json`]);
    await releaseModel(model);
    expect(store.left()).toEqual([]);
  });

  it('modes of the archive do not matter: no set-uid, nothing for others to write', async () => {
    const file = put('m.tar', tarBytes([{ ...config, mode: 0o6777 }]));
    const { folder } = await store.fetch(pathToFileURL(file).href);
    expect(statSync(path.join(folder, 'config.json')).mode & 0o7022).toBe(0);
  });

  it('two models of one archive share a folder that stays until both are gone', async () => {
    const file = put('m.tar', tarBytes([config]));
    const [a, b] = await Promise.all([store.fetch(file), store.fetch(file)]);
    expect(a.folder).toBe(b.folder);
    await releaseModel(a);
    expect(existsSync(path.join(b.folder, 'config.json'))).toBe(true);
    await releaseModel(b);
    expect(store.left()).toEqual([]);
  });

  it('an archive that changes under its path is unpacked again', async () => {
    const first = await store.fetch(put('m.tar', tarBytes([config])));
    const second = await store.fetch(put('m.tar', tarBytes([{ ...config, content: '{"a":1}' }])));
    expect(readFileSync(path.join(first.folder, 'config.json'), 'utf8')).toBe('{}');
    expect(readFileSync(path.join(second.folder, 'config.json'), 'utf8')).toBe('{"a":1}');
  });

  it('a long path of a pax header is read', async () => {
    const name = `${'d'.repeat(120)}/config.json`;
    const file = put('m.tar', tarBytes([paxEntry(paxRecord('path', name)), config]));
    const { folder } = await store.fetch(file);
    expect(existsSync(path.join(folder, 'config.json'))).toBe(true);
  });

  it('the only archive of a folder is unpacked; the folder is left alone', async () => {
    const folder = path.join(store.policy.modelStore, 'packed');
    mkdirSync(folder);
    writeFileSync(path.join(folder, 'weights.zip'), zipBytes([config]));
    const model = await store.fetch('packed');
    expect(model).toMatchObject({ owned: true, suggestedName: 'packed' });
    await releaseModel(model);
    expect(existsSync(path.join(folder, 'weights.zip'))).toBe(true);
  });
});

describe('folders', () => {
  it('are used where they are and never deleted', async () => {
    const folder = path.join(store.policy.modelStore, 'plain.v1');
    mkdirSync(folder);
    writeFileSync(path.join(folder, 'serving.properties'), '');
    for (const url of ['plain.v1', folder, `${folder}/`, pathToFileURL(folder).href]) {
      const model = await store.fetch(url);
      expect(model).toEqual({ folder, owned: false, suggestedName: 'plain_v1' });
      await releaseModel(model);
    }
    expect(existsSync(folder)).toBe(true);
    expect(store.left()).toEqual([]);
  });

  it('that hold nothing but a model folder are that model', async () => {
    const inner = path.join(store.policy.modelStore, 'outer', 'inner');
    mkdirSync(inner, { recursive: true });
    writeFileSync(path.join(inner, 'config.json'), '{}');
    expect(await store.fetch('outer')).toEqual({ folder: inner, owned: false, suggestedName: 'outer' });
  });

  it('without a model, or absent, are 404; a file that is no archive is 400', async () => {
    expect(await codeOf(store.fetch(store.policy.modelStore))).toBe('MODEL_NOT_FOUND');
    expect(await codeOf(store.fetch('/no/such/folder'))).toBe('MODEL_NOT_FOUND');
    expect(await codeOf(store.fetch(put('model.bin', Buffer.from('x'))))).toBe('BAD_REQUEST');
  });
});

/** Names that no entry may have, whatever the format. */
const badNames: [string, string, RegExp][] = [
  ['an absolute path', '/etc/passwd', /absolute path/],
  ['a drive letter', 'C:/x', /absolute path/],
  ['a path that climbs', '../evil', /\.\./],
  ['a path that climbs in the middle', 'a/../../evil', /\.\./],
  ['a backslash', 'a\\..\\evil', /backslash/],
  ['an empty segment', 'a//b', /empty or \. segment/],
  ['a dot segment', 'a/./b', /empty or \. segment/],
  ['a control character', 'a\nb', /control character/],
  ['too deep a path', `${'d/'.repeat(16)}x`, /deeper than 16/],
];

type Corpus = [what: string, bytes: Buffer, message: RegExp];

const link = (type: string): TarEntry => ({ name: 'link', type, linkName: '/etc/passwd' });
const badInTar: Corpus[] = [
  ...badNames.map(
    ([what, name, message]): Corpus => [what, tarBytes([config, { name, content: 'x' }]), message],
  ),
  ['a symbolic link', tarBytes([config, link('2')]), /is a symlink/],
  ['a write through a link', tarBytes([link('2'), { name: 'link/x', content: 'x' }]), /is a symlink/],
  ['a hard link', tarBytes([config, link('1')]), /is a link/],
  ['a character device', tarBytes([config, link('3')]), /is a character-device/],
  ['a block device', tarBytes([config, link('4')]), /is a block-device/],
  ['a fifo', tarBytes([config, link('6')]), /is a fifo/],
  ['a sparse file', tarBytes([config, { name: 'sparse', type: 'S' }]), /unknown kind/],
  [
    'a sparse file by pax',
    tarBytes([paxEntry(paxRecord('GNU.sparse.major', '1')), { name: 'sparse', content: 'x' }]),
    /sparse/,
  ],
  ['the same file twice', tarBytes([config, config]), /comes twice/],
  ['a file that differs by case', tarBytes([config, { ...config, name: 'CONFIG.json' }]), /letter case/],
  [
    'folders that differ by case',
    tarBytes([
      { name: 'A/x', content: '' },
      { name: 'a/y', content: '' },
    ]),
    /letter case/,
  ],
  [
    'a file as a folder',
    tarBytes([config, { name: 'config.json/x', content: '' }]),
    /both a file and a folder/,
  ],
  ['a NUL in a pax path', tarBytes([paxEntry(paxRecord('path', 'a\0b')), config]), /control character/],
  ['a climbing pax path', tarBytes([paxEntry(paxRecord('path', '../evil')), config]), /\.\./],
  [
    'a climbing long name',
    tarBytes([{ name: '././@LongLink', type: 'L', content: '../evil\0' }, config]),
    /\.\./,
  ],
  ['a name that is not UTF-8', tarBytes([{ name: Buffer.from([0x61, 0xff]), content: '' }]), /not UTF-8/],
  ['a negative size by pax', tarBytes([paxEntry(paxRecord('size', '-5')), config]), /damaged/],
  [
    'a size beyond all numbers',
    tarBytes([{ name: 'x', declaredBytes: Buffer.from([0x80, ...Array<number>(11).fill(0xff)]) }]),
    /says that it has/,
  ],
  ['a size beyond the limit', tarBytes([{ name: 'x', declaredBytes: 0o77777777777 }]), /at most 67108864/],
  [
    'more entries than the limit',
    tarBytes(Array.from({ length: 101 }, (_, i) => ({ name: `f${i}` }))),
    /100 entries/,
  ],
  ['a wrong sum', Buffer.concat([tarBytes([config]).fill('7', 148, 150)]), /damaged/],
  [
    'the end missing',
    tarBytes([config, { name: 'x', content: 'x'.repeat(2000) }]).subarray(0, 2500),
    /damaged/,
  ],
  [
    'a header without end',
    tarBytes([
      config,
      ...Array.from({ length: 2 }, () => paxEntry(`${paxRecord('a', 'x'.repeat(700_000))}`)),
      { name: 'x' },
    ]),
    /headers or padding/,
  ],
  ['zeros without end', Buffer.concat([tarBytes([config]), Buffer.alloc(2 << 20)]), /headers or padding/],
];

const S_IFLNK = 0o120777;
const badInZip: Corpus[] = [
  ...badNames.map(
    ([what, name, message]): Corpus => [what, zipBytes([config, { name, content: 'x' }]), message],
  ),
  ['a NUL', zipBytes([config, { name: 'a\0b' }]), /control character/],
  [
    'a symbolic link',
    zipBytes([config, { name: 'l', content: '/etc/passwd', mode: S_IFLNK }]),
    /special file/,
  ],
  ['a device', zipBytes([config, { name: 'd', mode: 0o020666 }]), /special file/],
  ['the same file twice', zipBytes([config, config]), /comes twice/],
  ['a file that differs by case', zipBytes([config, { ...config, name: 'Config.json' }]), /letter case/],
  ['encryption', zipBytes([{ ...config, flags: 0x801 }]), /encrypted/],
  ['an unknown compression', zipBytes([{ ...config, method: 99 }]), /damaged/],
  [
    'more bytes than declared',
    zipBytes([{ ...config, content: 'x'.repeat(500), declaredBytes: 3 }]),
    /damaged/,
  ],
  ['fewer bytes than declared', zipBytes([{ ...config, declaredBytes: 300 }]), /damaged/],
  ['stored sizes that differ', zipBytes([{ ...config, stored: true, declaredBytes: 30 }]), /damaged/],
  ['a wrong sum', zipBytes([{ ...config, crc: 1 }]), /sum/],
  [
    'entries that share bytes',
    zipBytes([
      { ...config, content: 'abc' },
      { name: 'x', content: 'abc', sameAs: 0 },
    ]),
    /shares its bytes/,
  ],
  [
    'a declared size beyond the limit',
    zipBytes([{ ...config, declaredBytes: 0xfffffffe }]),
    /at most 67108864/,
  ],
  [
    'more entries than the limit',
    zipBytes(Array.from({ length: 101 }, (_, i) => ({ name: `f${i}` }))),
    /101 entries/,
  ],
  ['entries that are not there', zipBytes([config], { declaredEntries: 3 }), /damaged/],
  ['a name that is not UTF-8', zipBytes([{ name: Buffer.from([0x61, 0xff]) }]), /not UTF-8/],
  ['the end missing', zipBytes([config]).subarray(0, 60), /damaged/],
  ['a folder with content', zipBytes([config, { name: 'd/', content: 'x' }]), /folder with content/],
];

describe('hostile archives are refused, with nothing left behind', () => {
  const corpus = [
    ...badInTar.map(([what, bytes, message]) => [`tar with ${what}`, 'bad.tar', bytes, message] as const),
    ...badInTar.map(
      ([what, bytes, message]) =>
        [`tgz with ${what}`, 'bad.tgz', gzipSync(bytes, { level: 0 }), message] as const,
    ),
    ...badInZip.map(([what, bytes, message]) => [`zip with ${what}`, 'bad.zip', bytes, message] as const),
  ];
  it.each(corpus)('%s', async (_what, name, bytes, message) => {
    const target = path.join(store.scratch, 'target');
    const { maxCompressionRatio, maxEntries, maxUnpackedBytes } = store.policy;
    const limits = { maxCompressionRatio, maxEntries, maxUnpackedBytes };
    const error = await failureOf(
      unpackArchive({ archive: put(name, bytes), target, limits }, () => undefined),
    );
    expect(['CHECKPOINT_INVALID', 'BAD_REQUEST']).toContain(error.code);
    expect(error.message).toMatch(message);
    expect(readdirSync(store.scratch).sort()).toEqual([name, 'models']);
  });

  it.each([
    ['bad.tar', tarBytes([config, { name: '../evil', content: 'x' }])],
    ['bad.tgz', gzipSync(tarBytes([config, { name: '../evil', content: 'x' }]))],
    ['bad.zip', zipBytes([config, { name: '../evil', content: 'x' }])],
  ])('%s through the whole store: the error names it', async (name, bytes) => {
    const error = await failureOf(store.fetch(put(name, bytes)));
    expect(error.code).toBe('CHECKPOINT_INVALID');
    expect(error.message).toContain(`${name}: The archive is refused: entry "../evil"`);
    expect(store.left()).toEqual([]);
    expect(readdirSync(store.scratch).sort()).toEqual([name, 'downloads', 'models']);
  });

  it('a gzip bomb is stopped by its ratio', async () => {
    const bomb = gzipSync(tarBytes([config, { name: 'zeros', content: Buffer.alloc(8 << 20) }]));
    const error = await failureOf(store.fetch(put('bomb.tgz', bomb)));
    expect(error.message).toMatch(/more than 200 times its size/);
    expect(store.left()).toEqual([]);
  });

  it('a gzip bomb of headers alone is stopped by its ratio', async () => {
    const header = paxEntry(paxRecord('comment', 'x'.repeat(500_000)));
    const entries = Array.from({ length: 20 }, (_, i) => [
      header,
      { name: i === 0 ? 'config.json' : `f${i}` },
    ]);
    const error = await failureOf(store.fetch(put('bomb.tgz', gzipSync(tarBytes(entries.flat())))));
    expect(error.message).toMatch(/more than 200 times its size/);
  });

  it('a zip bomb is stopped by its ratio', async () => {
    const bomb = zipBytes([config, { name: 'zeros', content: Buffer.alloc(8 << 20) }]);
    expect((await failureOf(store.fetch(put('bomb.zip', bomb)))).message).toMatch(
      /more than 200 times its size/,
    );
    expect(store.left()).toEqual([]);
  });

  it('a file that is no archive, a gzip of none, and an archive of an archive are refused', async () => {
    expect(await codeOf(store.fetch(put('a.tar', Buffer.from('hello'))))).toBe('CHECKPOINT_INVALID');
    expect(await codeOf(store.fetch(put('b.tgz', gzipSync('hello'.repeat(300)))))).toBe('CHECKPOINT_INVALID');
    expect(await codeOf(store.fetch(put('c.tgz', gzipSync(gzipSync(tarBytes([config]))))))).toBe(
      'CHECKPOINT_INVALID',
    );
    const inner = tarBytes([{ name: 'inner.tar', content: tarBytes([config]) }]);
    expect(await codeOf(store.fetch(put('d.tar', inner)))).toBe('MODEL_NOT_FOUND');
    expect(store.left()).toEqual([]);
  });

  it('an archive that hangs its reader costs a child process, not the server', async () => {
    const pipe = path.join(store.scratch, 'pipe.tar');
    expect(spawnSync('mkfifo', [pipe]).status).toBe(0);
    const limits = { maxUnpackedBytes: 1 << 20, maxEntries: 10, maxCompressionRatio: 10 };
    const target = path.join(store.scratch, 'target');
    const task = runStoreTask({ task: 'unpack', archive: pipe, target, limits }, { stallMs: 500 });
    expect((await failureOf(task)).message).toMatch(/no progress for 500 ms/);
    const controller = new AbortController();
    const { signal } = controller;
    const given = runStoreTask({ task: 'unpack', archive: pipe, target, limits }, { signal });
    controller.abort();
    expect(await codeOf(given)).toBe('CANCELLED');
    // The store itself does not even start on it.
    expect(await codeOf(store.fetch(pipe))).toBe('BAD_REQUEST');
  });

  it('giving up while it unpacks leaves nothing', async () => {
    const archive = put('m.tar', tarBytes([config, { name: 'weights', content: Buffer.alloc(16 << 20) }]));
    const controller = new AbortController();
    const stages = new Set<string>();
    const fetching = store.fetch(archive, {
      signal: controller.signal,
      onProgress: ({ stage }) => {
        stages.add(stage);
        controller.abort();
      },
    });
    expect(await codeOf(fetching)).toBe('CANCELLED');
    expect([...stages]).toEqual(['unpack']);
    expect(store.left()).toEqual([]);
  });

  it('of two who want the same, one may give up and the other still gets it', async () => {
    const archive = put('m.tar', tarBytes([config, { name: 'weights', content: Buffer.alloc(16 << 20) }]));
    const controller = new AbortController();
    const quitter = codeOf(
      store.fetch(archive, { signal: controller.signal, onProgress: () => controller.abort() }),
    );
    const stayer = store.fetch(archive);
    expect(await quitter).toBe('CANCELLED');
    expect(existsSync(path.join((await stayer).folder, 'config.json'))).toBe(true);
  });
});
