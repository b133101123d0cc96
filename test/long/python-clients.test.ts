/** Other people's clients of every dialect beside the real engine at degree 2: Python's in a virtual environment that is made here, npm's, curl, grpcurl; what cannot be had is skipped. */
import { execFile, execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  CLIENT_CASES,
  type Expected,
  MODEL,
  MORE_REQUIREMENTS,
  PROMPT,
  TOKENS,
} from '../clients/client-cases.js';
import {
  conformanceSummary,
  conformanceTable,
  outcomeKey,
  SUMMARY_END,
  SUMMARY_START,
} from '../clients/conformance-table.js';
import { type Given, NODE_CLIENTS } from '../clients/node-clients.js';
import { type SagemakerStub, startSagemakerStub } from '../clients/sagemaker-stub.js';
import { startTorchServe } from '../clients/torchserve-under-test.js';
import { repositoryRoot } from '../support/repository-root.js';
import { ServerProcess } from '../support/server-process.js';

const PROGRAMS = path.join(repositoryRoot, 'test', 'clients', 'programs');
const README = path.join(repositoryRoot, 'README.md');
const TABLE = path.join(repositoryRoot, 'test', 'clients', 'CONFORMANCE.md');
/** The message alone, so that chat and completion are asked the same; its calls are written as Qwen's kind writes them. */
const TEMPLATE =
  '{{ bos_token }}{% for tool in tools or [] %}{% endfor %}{% for message in messages %}{{ message.content }}' +
  '{% for call in message.tool_calls or [] %}<tool_call>{{ call.function.arguments.city }}</tool_call>{% endfor %}{% endfor %}';
const PARAMETERS = {
  type: 'object',
  properties: {
    city: { type: 'string', minLength: 1, maxLength: 8 },
    days: { type: 'integer', minimum: 1, maximum: 14 },
  },
  required: ['city', 'days'],
  additionalProperties: false,
};

const scratch = mkdtempSync(path.join(tmpdir(), 'clients-'));
const python = madePython();
const outcomes = new Map<string, string>();
let server: ServerProcess;
let sagemaker: SagemakerStub;
let torchServe: ServerProcess;
let given: Given & Record<string, unknown>;
let text: string;

/** PYTHON_CLIENTS names one that has the packages. null: this machine cannot make it. */
function madePython(): string | null {
  if (process.env.PYTHON_CLIENTS !== undefined) return process.env.PYTHON_CLIENTS;
  const folder = path.join(scratch, 'python');
  const own = path.join(folder, 'bin', 'python');
  const cases = CLIENT_CASES.filter(({ kind = 'pip' }) => kind === 'pip');
  const packages = [...new Set([...cases.map(({ requirement }) => requirement), ...MORE_REQUIREMENTS])];
  const install = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...packages];
  try {
    execFileSync('python3', ['-m', 'venv', folder], { stdio: 'ignore', timeout: 120_000 });
    execFileSync(own, install, { stdio: 'ignore', timeout: 600_000 });
    return own;
  } catch {
    return null;
  }
}

/** The program that a variable names, or that Go's own command makes; null: this machine has neither. */
function madeGrpcurl(): string | null {
  if (process.env.GRPCURL !== undefined) return process.env.GRPCURL;
  const { requirement } = CLIENT_CASES.find(({ program }) => program === 'torchserve_grpcurl')!;
  const version = requirement
    .replace('==', '@v')
    .replace('grpcurl', 'github.com/fullstorydev/grpcurl/cmd/grpcurl');
  try {
    const env = { ...process.env, GOBIN: scratch, GOFLAGS: '-modcacherw' };
    execFileSync('go', ['install', version], { stdio: 'ignore', timeout: 600_000, env });
    return path.join(scratch, 'grpcurl');
  } catch {
    return null;
  }
}

beforeAll(async () => {
  const store = path.join(scratch, 'models');
  const folder = path.join(store, MODEL);
  cpSync(path.join(repositoryRoot, 'models', 'embedded'), folder, { recursive: true });
  // It samples by default; clients that can't say otherwise are compared too.
  rmSync(path.join(folder, 'generation_config.json'), { force: true });
  const file = path.join(folder, 'tokenizer_config.json');
  const config = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as object) : {};
  writeFileSync(file, JSON.stringify({ ...config, chat_template: TEMPLATE }));
  server = await ServerProcess.start({
    ...{ SERVING_MODEL_STORE: store, TENSOR_PARALLEL_DEGREE: '2' },
    SERVING_GRPC_ADDRESS: 'http://127.0.0.1:0',
  });
  const grpc = server.lines.find(
    ({ msg }) => msg === 'the Open Inference Protocol is served by gRPC',
  )?.address;
  sagemaker = await startSagemakerStub(server.url);
  const theirs = await startTorchServe(path.join(scratch, 'torchserve'), folder);
  torchServe = theirs.server;
  given = {
    ...{ url: server.url, grpc, sagemaker: sagemaker.url, torchserve: theirs.addresses },
    ...{ model: MODEL, prompt: PROMPT, tokens: TOKENS, parameters: PARAMETERS, folder },
  };
  const response = await server.post(`/predictions/${MODEL}`, {
    ...{ inputs: PROMPT, parameters: { max_new_tokens: TOKENS } },
  });
  text = ((await response.json()) as { generated_text: string }).generated_text;
});

afterAll(async () => {
  sagemaker?.close();
  await server?.stop();
  await torchServe?.stop();
  rmSync(scratch, { recursive: true, force: true });
  if (process.env.WRITE_CONFORMANCE !== undefined && outcomes.size > 0) {
    const table = conformanceTable(outcomes, new Date().toISOString().slice(0, 10));
    writeFileSync(TABLE, table);
    const [before, rest] = readFileSync(README, 'utf8').split(`${SUMMARY_START}\n`);
    const after = rest!.slice(rest!.indexOf(SUMMARY_END));
    writeFileSync(README, `${before}${SUMMARY_START}\n${conformanceSummary(table)}${after}`);
  }
});

const isValid = new Ajv2020().compile(PARAMETERS);

/** null: right. */
function wrong(seen: unknown, expected: Expected): string | null {
  const shown = JSON.stringify(seen)?.slice(0, 200);
  if (expected === 'text') return seen === text ? null : `${shown}, not ${JSON.stringify(text)}`;
  if (expected === 'arguments') {
    try {
      const value: unknown = typeof seen === 'string' ? JSON.parse(seen) : seen;
      return isValid(value) ? null : `${shown} is not valid to the schema`;
    } catch {
      return `${shown} is no JSON`;
    }
  }
  return JSON.stringify(seen) === JSON.stringify(expected.value)
    ? null
    : `${shown}, not ${JSON.stringify(expected.value)}`;
}

/** What a program of test/clients/programs told; and its standard error. */
async function toldBy(program: string): Promise<[Record<string, unknown>, string]> {
  const { stdout, stderr } = await promisify(execFile)(
    python ?? 'python3',
    [path.join(PROGRAMS, `${program}_client.py`), JSON.stringify(given)],
    { encoding: 'utf8', env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' }, timeout: 180_000 },
  );
  return [JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}'), stderr];
}

/** The same of one of npm's. */
async function toldByNode(program: string): Promise<[Record<string, unknown>, string]> {
  const told: Record<string, unknown> = {};
  for (const [operation, ask] of Object.entries(NODE_CLIENTS[program]!(given)))
    told[operation] = await ask().catch((error: unknown) => String(error));
  return [told, ''];
}

describe('the client', () => {
  it.for(CLIENT_CASES)('$program', async ({ command, kind = 'pip', operations, program }, { skip }) => {
    if (kind === 'pip' && python === null) skip();
    if (command === 'GRPCURL') process.env.GRPCURL = madeGrpcurl() ?? skip();
    if (command !== undefined && process.env[command] === undefined) skip();
    const [told, stderr] = await (kind === 'npm' ? toldByNode(program) : toldBy(program));
    expect(Object.keys(told).sort(), stderr).toEqual(Object.keys(operations).sort());
    const wrongs: Record<string, string> = {};
    for (const [operation, expected] of Object.entries(operations)) {
      const why = wrong(told[operation], expected);
      outcomes.set(outcomeKey(program, operation), why === null ? 'right' : `wrong: ${why}`);
      if (why !== null) wrongs[operation] = why;
    }
    expect(wrongs).toEqual({});
  });
});
