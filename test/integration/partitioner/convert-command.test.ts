/**
 * The command that a pickled checkpoint's refusal prints, run by bash as its reader would paste it: whatever the folder is called,
 * the program gets exactly that folder, and nothing else runs. In place of Python stands a script that writes down its arguments;
 * what the program itself does was seen with torch (partitioner/README.md).
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { convertCommand, shellWord } from '../../../partitioner/checkpoint/convert-command.js';
import { openCheckpoint } from '../../../partitioner/checkpoint/safetensors.js';
import { seededRandom, testSeed } from '../../fixtures/seeded-random.js';

const HOSTILE = [
  'plain',
  'two words',
  "it's",
  'say "hi"',
  '$(touch canary)',
  '`touch canary`',
  "'; touch canary; '",
  "'\\''; touch canary; '",
  "'); __import__('os').system('touch canary'); ('",
  '"; touch canary; "',
  '$HOME $PATH',
  'line\nbreak; touch canary',
  'touch\rcanary',
  'tab\there',
  '\\n \\x41 \\',
  '-rf',
  '~',
  '!! !touch',
  '* ? [a-z] {a,b}',
  '; touch canary #',
  '&& touch canary &',
  'Ünïcode 模型 🤗 \u202e\u2028',
  '\u001b[31mred\u0007',
  '\u00019',
];

let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'convert-'));
  mkdirSync(path.join(scratch, 'bin'));
  const stub = path.join(scratch, 'bin', 'python3');
  writeFileSync(stub, '#!/bin/bash\nprintf "%s\\0" "$@" > "$WRITTEN"\n');
  chmodSync(stub, 0o755);
});
afterAll(() => rmSync(scratch, { recursive: true }));

/** What the program would get: its text, then its arguments. */
function run(command: string): string[] {
  const cwd = mkdtempSync(path.join(scratch, 'cwd-'));
  const written = path.join(scratch, 'written');
  rmSync(written, { force: true });
  execFileSync('bash', ['-c', command], {
    cwd,
    env: { PATH: `${path.join(scratch, 'bin')}:/usr/bin:/bin`, WRITTEN: written, HOME: scratch },
  });
  expect(readdirSync(cwd), 'nothing else ran').toEqual([]);
  return readFileSync(written, 'utf8').split('\0').slice(0, -1);
}

function refusal(folder: string): string {
  try {
    openCheckpoint(folder).close();
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('was opened');
}

it.each(HOSTILE)('a folder called %j reaches the program as it is', (name) => {
  const folder = path.join(scratch, 'models', name);
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'pytorch_model.bin'), '');
  const message = refusal(folder);
  const command = message.slice(message.lastIndexOf('If you trust it: ') + 'If you trust it: '.length);
  const [flag, program, ...words] = run(command);
  expect(flag).toBe('-c');
  expect(program).toMatch(/^import os, sys, torch; .*save_file\(/);
  expect(words).toEqual([folder, 'pytorch_model.bin', 'model.safetensors', 'cpu', 'pt']);
});

it.each(HOSTILE)('a line copied out of JSON with a folder called %j runs nothing else', (name) => {
  const command = convertCommand(path.join(scratch, name), ['pytorch_model.bin'])!;
  const words = run(JSON.stringify(command).slice(1, -1));
  expect(words.length).toBe(7);
  if (!command.includes("$'")) expect(words[2]).toBe(path.join(scratch, name));
});

it('a program has nothing that a shell or JSON would read as its own', () => {
  for (const names of [['pytorch_model.bin'], ['pytorch_model-00001-of-00002.bin']]) {
    const [, program] = run(convertCommand('/m', names)!);
    expect(program).not.toMatch(/['"\\\n]/);
  }
});

it('a checkpoint of many files is named by a pattern that the shell leaves alone', () => {
  const names = ['config.json', 'pytorch_model-00001-of-00002.bin', 'pytorch_model-00002-of-00002.bin'];
  const words = run(convertCommand(scratch, names)!).slice(2);
  expect(words).toEqual([
    scratch,
    'pytorch_model-*.bin',
    '.safetensors',
    'model.safetensors.index.json',
    'cpu',
    'pt',
    'w',
  ]);
});

it('a relative folder is written whole, since a bare name could be taken for a model of the hub', () => {
  expect(run(convertCommand('gpt2', ['pytorch_model.bin'])!)[2]).toBe(path.resolve('gpt2'));
});

it('pickles that are not weights, or in a layout of their own, have no command', () => {
  expect(convertCommand('/m', ['optimizer.pt', 'training_args.bin', 'consolidated.00.pth'])).toBeNull();
});

it(`any text is one word of bash (seed ${testSeed})`, () => {
  const random = seededRandom(testSeed);
  const pieces = [...'\'"\\$`!;&|<>(){}[]*?~#\n\t\r 09azAZ-=', '\u00e9', '\u6a21', '\u{1f917}', "$'", '\\x'];
  for (let round = 0; round < 40; round++) {
    const texts = Array.from({ length: 25 }, () =>
      Array.from({ length: random.integer(1, 12) }, () => random.pick(pieces)).join(''),
    );
    expect(run(`python3 ${texts.map(shellWord).join(' ')}`)).toEqual(texts);
  }
});
