/** partitioner/main.ts: the command line as the server and a user start it. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseCommandLine } from '../../../partitioner/command/command-line.js';
import { shapeNames } from '../../../partitioner/named-shapes.js';
import { kernelLibrary } from '../../../proto/kernel-library.js';
import { TOY_CONFIG } from '../../fixtures/toy-config.js';
import { goldenFolder } from '../../support/golden.js';
import { repositoryRoot } from '../../support/repository-root.js';

const PROGRAM = path.join(repositoryRoot, 'dist', 'partitioner', 'main.js');

let scratch: string;
let toy: string;
beforeAll(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'partition-cli-'));
  toy = path.join(scratch, 'toy');
  cpSync(goldenFolder('qwen2'), toy, { recursive: true });
  for (const file of readdirSync(toy)) rmSync(path.join(toy, file));
  writeFileSync(path.join(toy, 'config.json'), JSON.stringify(TOY_CONFIG));
});
afterAll(() => rmSync(scratch, { recursive: true }));

function run(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, ...args], {
    cwd: scratch,
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

const events = (stdout: string): Record<string, unknown>[] =>
  stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

describe('partition', () => {
  it('prints plan, progress, verification and sizes, and keeps the shards in .shards', () => {
    const { status, stdout, stderr } = run(goldenFolder('qwen2'), '--tp', '2', '--verify');
    expect(stderr).toBe('');
    expect(status).toBe(0);
    expect(stdout).toContain('Qwen2ForCausalLM');
    expect(stdout).toMatch(/layer-\*\.qkv\.bias +2 +column +0/);
    expect(stdout).toContain('writing shards: 100 %');
    expect(stdout).toContain('joined again equal the checkpoint');
    expect(stdout).toContain('rank 1: ');
    const [name = ''] = readdirSync(path.join(scratch, '.shards'));
    expect(stdout.trimEnd().endsWith(path.join('.shards', name))).toBe(true);
    expect(run(goldenFolder('qwen2'), '--tp', '2').stdout).toContain('nothing was written');
  });

  it('with --json speaks to programs', () => {
    const args = [
      toy,
      '--random-weights',
      '--seed',
      '3',
      '--dtype',
      'int4',
      '--block-size',
      '16',
      '--tp',
      '2',
    ];
    const { status, stdout } = run(...args, '--json', '--verify', '--store', 'elsewhere');
    expect(status).toBe(0);
    const all = events(stdout);
    expect(new Set(all.map(({ event }) => event))).toEqual(new Set(['plan', 'progress', 'verified', 'done']));
    expect(all[0]).toMatchObject({ event: 'plan', worldSize: 2, dtype: 'int4', blockSize: 16 });
    const last = all.findLast(({ event }) => event === 'progress');
    expect(last?.doneBytes).toBe(last?.totalBytes);
    const [name] = readdirSync(path.join(scratch, 'elsewhere'));
    expect(all.at(-1)).toMatchObject({ event: 'done', name, reused: false, worldSize: 2 });
  });

  it('--plan-only needs config.json alone, and writes nothing', () => {
    const { status, stdout } = run(toy, '--plan-only', '--json', '--tp', '4', '--store', 'none');
    expect(status).toBe(0);
    expect(events(stdout)).toEqual([
      expect.objectContaining({
        event: 'plan',
        worldSize: 4,
        kvBytesPerTokenPerRank: 128,
        contextLength: 128,
      }),
    ]);
    expect(readdirSync(scratch)).not.toContain('none');
  });

  it.runIf(kernelLibrary() !== null)(
    'int4 says what it leaves at 8 bits, and how many bits that makes',
    () => {
      const told = (name: string, ...options: string[]) =>
        run('--shape', name, '--plan-only', '--dtype', 'int4', ...options).stdout;
      expect(told('ernie-4.5-0.3b')).toMatch(
        /\nint4 leaves head, qkv, first, last at 8 bits: 7\.\d bits a weight, scales included\n/,
      );
      expect(told('ernie-4.5-0.3b')).toMatch(/layer-\*\.qkv\.weight +18 .* int8 /);
      expect(told('ernie-4.5-0.3b')).toMatch(/layer-\*\.down\.weight +2 .* int8 /);
      expect(told('ernie-4.5-0.3b')).toMatch(/layer-\*\.down\.weight +16 .* int4 /);
      expect(told('tinyllama-1.1b')).toMatch(/\nint4 leaves head at 8 bits: 5\.\d bits a weight/);
      expect(told('tinyllama-1.1b', '--eight-bit', 'none')).not.toContain('at 8 bits');
    },
  );

  it.each([
    ['tinyllama-1.1b', 1_100_048_384, 22],
    ['llama-3.2-3b', 3_212_749_824, 28],
    ['llama-3.1-8b', 8_030_261_248, 32],
  ])('--shape %s has the parameters it is known for', (name, parameters, layers) => {
    const { stdout } = run('--shape', name, '--plan-only', '--json', '--tp', '8');
    expect(events(stdout)[0]).toMatchObject({ parameters, dtype: 'int4', allReducesPerStep: 2 * layers });
    expect(shapeNames()).toContain(name);
  });

  it('--help names every option', () => {
    const { status, stdout } = run('--help');
    expect(status).toBe(0);
    for (const option of [
      '--tp',
      '--dtype',
      '--block-size',
      '--store',
      '--verify',
      '--plan-only',
      '--json',
    ]) {
      expect(stdout).toContain(option);
    }
  });
});

describe('errors are one line and exit code 1', () => {
  it.each([
    [[], 'either a model folder or --shape NAME is needed'],
    [['TOY', '--shape', 'tinyllama-1.1b'], 'either a model folder or --shape NAME is needed'],
    [['TOY', 'more'], 'one folder is expected, 2 are given'],
    [['TOY', '--tp', '0'], '--tp 0: expected a whole number of at least 1'],
    [['TOY', '--tp', 'two'], '--tp two: expected a whole number'],
    [['TOY', '--dtype', 'fp8'], '--dtype fp8: expected one of auto, fp32, fp16, bf16, int8, int4'],
    [['TOY', '--reproducible-degree', '3'], '--reproducible-degree 3: expected one of 1, 2, 4, 8'],
    [['TOY', '--activation-bits', '4'], '--activation-bits 4: expected one of 8, 16'],
    [['TOY', '--device', 'webgpu', '--layout', 'panels'], '--layout panels is for the CPU, not for webgpu'],
    [['TOY', '--colour'], "Unknown option '--colour'"],
    [['--shape', '../toy'], `no shape is called ../toy; there are ${shapeNames().join(', ')}`],
  ])('words that mean nothing: %j', (args, message) => {
    const parse = () => parseCommandLine(args);
    expect(parse).toThrow(message);
    expect(parse).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });

  it.each([
    [['TOY', '--tp', '0'], 'CONFIG_INVALID: --tp 0: expected a whole number of at least 1'],
    [['TOY', '--block-size', '100', '--plan-only'], 'CONFIG_INVALID: block size 100 is not one of 16,'],
    [
      ['TOY', '--plan-only', '--tp', '9'],
      'TENSOR_PARALLEL_INVALID: tensor parallel degree 9: a rank would be empty: there are 8 attention heads',
    ],
    [['TOY'], 'CHECKPOINT_INVALID: '],
    [['nowhere'], 'CHECKPOINT_INVALID: nowhere/config.json: the file is missing'],
  ])('%j', (args, message) => {
    const { status, stdout, stderr } = run(...args.map((arg) => (arg === 'TOY' ? toy : arg)));
    expect(status).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toContain(message);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  });

  it('with --json the line is an event on standard output', () => {
    const { status, stdout, stderr } = run('nowhere', '--json');
    expect([status, stderr]).toEqual([1, '']);
    expect(events(stdout)).toEqual([expect.objectContaining({ event: 'error', code: 'CHECKPOINT_INVALID' })]);
  });
});
