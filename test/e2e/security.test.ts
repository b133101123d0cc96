/** The running server seen by who looks for holes: its sockets, its secrets in whatever it says, the doctor's list beside it. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { repositoryRoot } from '../support/repository-root.js';
import { ServerProcess } from '../support/server-process.js';

const CANARY = 'canary7Zq';
const secrets = Object.fromEntries(
  ['api', 'management', 'hub', 'aws', 'keystore', 'prompt', 'user', 'signature', 'wrong'].map((name) => [
    name,
    `${CANARY}-of-${name}`,
  ]),
) as Record<string, string>;
const ENVIRONMENT = {
  TENSOR_PARALLEL_DEGREE: '1',
  SERVING_API_KEY: secrets.api!,
  SERVING_MANAGEMENT_KEY: secrets.management!,
  SERVING_KEYSTORE_PASS: secrets.keystore!,
  SERVING_GRPC_ADDRESS: 'http://127.0.0.1:0',
  SERVING_PROMETHEUS: 'true',
  SERVING_LOG_LEVEL: 'info',
  SERVING_ALLOWED_HOSTS: '127.0.0.1:9',
  HF_TOKEN: secrets.hub!,
  AWS_SECRET_ACCESS_KEY: secrets.aws!,
};

let server: ServerProcess;
beforeAll(async () => {
  server = await ServerProcess.start(ENVIRONMENT);
});
afterAll(() => server?.stop());

const ask = async (method: string, target: string, key: string | undefined, body?: object) => {
  const response = await fetch(server.url + target, {
    method,
    headers: { 'content-type': 'application/json', ...(key && { authorization: `Bearer ${key}` }) },
    ...(body && { body: JSON.stringify(body) }),
  });
  return { status: response.status, text: await response.text() };
};

/** Addresses on which the process listens, as hexadecimal of the kernel's table turned to text. */
function listening(pid: number): string[] {
  const inodes = new Set(
    readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
      } catch {
        return [];
      }
    }),
  );
  const hosts: string[] = [];
  for (const table of ['tcp', 'tcp6']) {
    for (const line of readFileSync(`/proc/${pid}/net/${table}`, 'utf8').split('\n').slice(1)) {
      const [, local = '', , state, , , , , , inode = ''] = line.trim().split(/\s+/);
      if (state !== '0A' || !inodes.has(inode)) continue;
      const [host = ''] = local.split(':');
      hosts.push(
        host.length === 8
          ? host
              .match(/../g)!
              .reverse()
              .map((byte) => Number.parseInt(byte, 16))
              .join('.')
          : host,
      );
    }
  }
  return hosts;
}

function doctor(environment: Record<string, string>, ...flags: string[]) {
  const run = spawnSync(
    process.execPath,
    ['server/shardserve.mjs', 'doctor', '--security', '--json', ...flags],
    {
      cwd: repositoryRoot,
      encoding: 'utf8',
      env: {
        ...process.env,
        SERVING_INFERENCE_ADDRESS: 'http://127.0.0.1:0',
        SERVING_MANAGEMENT_ADDRESS: 'http://127.0.0.1:0',
        ...environment,
      },
    },
  );
  const rows = (run.stdout.startsWith('[') ? JSON.parse(run.stdout) : []) as {
    level: string;
    kind: string;
    what: string;
    says: string;
  }[];
  return { ...run, rows };
}

describe('the doctor', () => {
  it('lists as many listeners as the server and its workers have, each on the loopback address', () => {
    const { rows, status, stdout } = doctor(ENVIRONMENT);
    const listed = rows.filter(({ kind }) => kind === 'listener');
    expect(status, stdout).toBe(0);
    expect(listed.map(({ what }) => what)).toEqual([
      'inference_address, management_address, metrics_address',
      'grpc_address',
    ]);
    for (const { says } of listed)
      expect(says).toMatch(/127\.0\.0\.1:0; this machine only; no TLS; with a key/);
    expect(listening(server.pid)).toEqual(listed.map(() => '127.0.0.1'));
    for (const pid of server.childPids()) expect(listening(pid)).toEqual([]);
    expect(stdout).not.toContain(CANARY);
  });

  it('fails on an address that anybody reaches, and on a file of keys that others read', () => {
    const open = doctor({ SERVING_INFERENCE_ADDRESS: 'http://0.0.0.0:8080', SERVING_INSECURE: 'true' });
    expect(open.status).toBe(1);
    expect(open.rows.filter(({ level }) => level === 'bad').map(({ what }) => what)).toEqual([
      'inference_address',
      'insecure',
    ]);
    const file = doctor({ SERVING_KEY_FILE: `${repositoryRoot}/package.json` });
    expect(file.status).toBe(1);
    expect(file.rows.find(({ what }) => what === 'key_file')?.says).toMatch(
      /may be read or written by others/,
    );
  });
});

describe("the doctor of TorchServe's command", () => {
  it('lists its listeners, gRPC among them, its tokens and folders, and fails on an open one', () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'shardserve-doctor-'));
    const of = (properties: string) => {
      writeFileSync(path.join(folder, 'config.properties'), `model_store=${folder}\n${properties}`);
      return doctor({}, 'torchserve', '--ts-config', path.join(folder, 'config.properties'));
    };
    const usual = of('');
    expect([usual.status, usual.stdout]).toEqual([0, expect.any(String)]);
    const listed = usual.rows.filter(({ kind }) => kind === 'listener');
    expect(listed.map(({ what, says }) => [what, says.replace(/^\S+; /, '')])).toEqual([
      ['inference_address, management_address', 'this machine only; no TLS; with a key: infer, manage'],
      ['metrics_address', 'this machine only; no TLS; without a key: metrics'],
      ['grpc_inference_address', 'this machine only; no TLS; with a key: infer, manage'],
      ['grpc_management_address', 'this machine only; no TLS; with a key: manage'],
    ]);
    const paths = usual.rows.filter(({ kind }) => kind !== 'listener').map(({ what }) => what);
    expect(paths).toEqual(expect.arrayContaining(['tokens', 'logs and snapshots', 'model_store']));
    const open = of('disable_token_authorization=true\ngrpc_inference_address=0.0.0.0\n');
    expect(open.rows.filter(({ level }) => level === 'bad').map(({ what }) => what)).toEqual([
      'grpc_inference_address',
      'insecure',
    ]);
    expect(open.status).toBe(1);
    rmSync(folder, { recursive: true });
  });
});

describe('secrets and prompts', () => {
  it('are in no log line, no error, no description and no metric', async () => {
    const said: string[] = [];
    const tell = async (...given: Parameters<typeof ask>) => {
      const { status, text } = await ask(...given);
      said.push(text);
      return status;
    };
    const { api, management, prompt, signature, user, wrong } = secrets;
    const completion = { model: 'embedded', max_tokens: 4 };
    // What the client sent comes back in answers alone: its own prompt is not looked for there.
    expect((await ask('POST', '/v1/completions', api, { ...completion, prompt })).status).toBe(200);
    expect(
      (await ask('POST', '/predictions/embedded', api, { inputs: prompt, parameters: { max_new_tokens: 2 } }))
        .status,
    ).toBe(200);
    expect(await tell('POST', '/v1/completions', wrong, completion)).toBe(401);
    expect(await tell('POST', '/v1/completions', management, { ...completion, prompt: 5 })).toBe(400);
    expect(await tell('POST', '/models', api, {})).toBe(403);
    const url = encodeURIComponent(`http://u:${user}@127.0.0.1:9/m.tar?X-Amz-Signature=${signature}`);
    expect(await tell('POST', `/models?model_name=x&url=${url}`, management)).toBeGreaterThan(399);
    for (const target of [
      '/models',
      '/models/embedded',
      '/models/x',
      '/metrics',
      '/server/metrics',
      '/v1/models',
      '/ping',
      '/',
      '/openapi.json',
    ])
      await tell('GET', target, management);
    expect(await tell('PUT', '/models/embedded?min_worker=1', management)).toBe(200);
    await server.line(({ method, msg }) => msg === 'audit' && method === 'PUT');
    const logged = [...server.lines.map((line) => JSON.stringify(line)), ...server.printed, server.stderr];
    expect(logged.filter((line) => line.includes(CANARY))).toEqual([]);
    expect(said.filter((text) => text.includes(CANARY))).toEqual([]);
    // The test would see one.
    expect(logged.join()).toContain('/v1/completions');
  });

  it('are in the environment of no worker', () => {
    for (const pid of server.childPids())
      expect(readFileSync(`/proc/${pid}/environ`, 'utf8')).not.toContain(CANARY);
  });

  it('leave a line of who managed what, refused or not, with the key by name', async () => {
    const lines = server.lines.filter(({ msg }) => msg === 'audit');
    expect(lines.map(({ key, method, status }) => [key, method, status])).toEqual(
      expect.arrayContaining([
        ['api_key', 'POST', 403],
        ['management_key', 'PUT', 200],
      ]),
    );
  });
});
