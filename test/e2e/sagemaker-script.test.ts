/**
 * The mission's article step by step, as docker/sagemaker.mjs does it: image, push, upload, create-model with TENSOR_PARALLEL_DEGREE=2, endpoint
 * configuration with its three limits, endpoint, one request. `aws` and `docker` are stubs that keep to the API's shapes and write down what
 * they were asked; the endpoint is the built server, with the model and the environment that the calls named.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { repositoryRoot } from '../support/repository-root.js';
import { ServerProcess } from '../support/server-process.js';

const ROLE = 'arn:aws:iam::123456789012:role/service-role/SageMaker';
const REGISTRY = '123456789012.dkr.ecr.eu-central-1.amazonaws.com';
let scratch: string;
let server: ServerProcess | undefined;

/**
 * What of `aws` the script may ask, with the patterns and bounds of the API's reference (CreateModel, CreateEndpointConfig, ProductionVariant).
 * A state in files: what is not there is an error, as there.
 */
const AWS = `#!/usr/bin/env node
const fs = require('node:fs');
const path = require('node:path');
const argv = process.argv.slice(2);
const at = (name) => path.join(process.env.STUB, name);
fs.appendFileSync(at('calls.jsonl'), JSON.stringify(['aws', ...argv]) + '\\n');
const fail = (message, code = 254) => { console.error(message); process.exit(code); };
const words = [];
const flags = {};
for (let i = 0; i < argv.length; i++) {
  if (argv[i].startsWith('--')) flags[argv[i].slice(2)] = argv[++i];
  else words.push(argv[i]);
}
const make = (kind, name, value) => {
  if (!/^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$/.test(name)) fail('ValidationException: ' + name);
  if (fs.existsSync(at(kind + '-' + name))) fail('Cannot create already existing ' + kind);
  fs.writeFileSync(at(kind + '-' + name), JSON.stringify(value ?? {}));
};
const need = (kind, name) => fs.existsSync(at(kind + '-' + name)) || fail('Could not find ' + kind + ' ' + name);
const only = (value, shape) => {
  for (const [key, one] of Object.entries(value)) {
    if (!shape[key]) fail('Unknown parameter ' + key, 252);
    if (!shape[key](one)) fail('Invalid ' + key + ': ' + one, 252);
  }
};
const within = (least, most) => (value) => Number.isInteger(value) && value >= least && value <= most;
if (flags.region !== 'eu-central-1') fail('You must specify a region', 253);
const calls = {
  'ecr describe-repositories': () => need('repository', flags['repository-names']),
  'ecr create-repository': () => make('repository', flags['repository-name']),
  'ecr get-login-password': () => console.log('a-password-of-twelve-hours'),
  's3 cp': () => {
    if (!/^s3:\\/\\/[a-z0-9.-]{3,63}\\/./.test(words[3])) fail('Invalid S3 URI ' + words[3], 252);
    fs.copyFileSync(words[2], at('archive'));
  },
  'sagemaker create-model': () => {
    const container = JSON.parse(flags['primary-container']);
    only(container, {
      Image: (image) => image.length <= 255 && !/\\s/.test(image),
      ModelDataUrl: (url) => /^(https|s3):\\/\\/([^/]+)\\/?(.*)$/.test(url) && /\\.tar\\.gz$/.test(url),
      Environment: (all) => Object.entries(all).every(([key, value]) => /^[a-zA-Z_]\\w*$/.test(key) && typeof value === 'string'),
    });
    if (!/^arn:aws[a-z-]*:iam::\\d{12}:role\\/?[a-zA-Z_0-9+=,.@/-]+$/.test(flags['execution-role-arn'])) fail('role', 252);
    make('model', flags['model-name'], container);
  },
  'sagemaker create-endpoint-config': () => {
    const variants = JSON.parse(flags['production-variants']);
    for (const variant of variants) {
      only(variant, {
        VariantName: (name) => /^[a-zA-Z0-9](-*[a-zA-Z0-9])*$/.test(name),
        ModelName: (name) => need('model', name),
        InstanceType: (type) => /^ml\\.[a-z0-9]+\\.\\d*x?large$/.test(type),
        InitialInstanceCount: within(1, 1e9),
        VolumeSizeInGB: within(1, 512),
        ModelDataDownloadTimeoutInSeconds: within(60, 3600),
        ContainerStartupHealthCheckTimeoutInSeconds: within(60, 3600),
      });
    }
    make('config', flags['endpoint-config-name'], variants);
  },
  'sagemaker create-endpoint': () => {
    need('config', flags['endpoint-config-name']);
    make('endpoint', flags['endpoint-name']);
  },
  'sagemaker wait': () => need('endpoint', flags['endpoint-name']),
  'sagemaker-runtime invoke-endpoint': async () => {
    need('endpoint', flags['endpoint-name']);
    const headers = { 'content-type': flags['content-type'] };
    const answer = await fetch(process.env.STUB_ENDPOINT + '/invocations', { method: 'POST', headers, body: flags.body });
    if (!answer.ok) fail('ModelError: ' + answer.status + ' ' + (await answer.text()));
    fs.writeFileSync(words[2], await answer.text());
  },
  ...Object.fromEntries(['endpoint', 'endpoint-config', 'model'].map((what) => ['sagemaker delete-' + what, () => {
    const kind = what.replace('endpoint-config', 'config');
    need(kind, flags[what + '-name']);
    fs.rmSync(at(kind + '-' + flags[what + '-name']));
  }])),
};
const call = calls[words.slice(0, 2).join(' ')];
if (!call) fail('Invalid choice ' + words.join(' '), 252);
call();
`;
const DOCKER = `#!/usr/bin/env node
const fs = require('node:fs');
const argv = process.argv.slice(2);
const input = argv.includes('--password-stdin') ? fs.readFileSync(0, 'utf8').trim() : undefined;
fs.appendFileSync(require('node:path').join(process.env.STUB, 'calls.jsonl'), JSON.stringify(['docker', ...argv, ...(input ? ['<' + input] : [])]) + '\\n');
`;

beforeAll(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'shardserve-sagemaker-'));
  const bin = path.join(scratch, 'bin');
  mkdirSync(bin);
  for (const [name, text] of [
    ['aws', AWS],
    ['docker', DOCKER],
  ] as const) {
    writeFileSync(path.join(bin, name), text);
    chmodSync(path.join(bin, name), 0o755);
  }
  // As SageMaker wants it: the folder's content at the archive's root.
  const model = path.join(scratch, 'model');
  cpSync(path.join(repositoryRoot, 'models', 'embedded'), model, { recursive: true });
  writeFileSync(path.join(model, 'serving.properties'), 'engine=DeepSpeed\noption.dtype=int4\n');
  const packed = spawnSync('tar', ['-czf', path.join(scratch, 'gpt-j.tar.gz'), '-C', model, '.']);
  expect(packed.status).toBe(0);
});
afterAll(async () => {
  await server?.stop();
  rmSync(scratch, { recursive: true });
});

function script(options: readonly string[], environment: Record<string, string> = {}) {
  const named = ['--account', '123456789012', '--region', 'eu-central-1', '--role-arn', ROLE];
  const files = ['--bucket', 'my-models/deepspeed', '--model', path.join(scratch, 'gpt-j.tar.gz')];
  return spawnSync(process.execPath, ['docker/sagemaker.mjs', ...named, ...files, ...options], {
    cwd: repositoryRoot,
    encoding: 'utf8',
    env: {
      PATH: `${path.join(scratch, 'bin')}:${process.env.PATH}`,
      HOME: scratch,
      STUB: scratch,
      ...environment,
    },
  });
}
const calls = (): string[][] =>
  readFileSync(path.join(scratch, 'calls.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as string[]);
const made = <T>(name: string): T => JSON.parse(readFileSync(path.join(scratch, name), 'utf8')) as T;

describe('docker/sagemaker.mjs', () => {
  it('refuses what the API would, before anything is run', () => {
    const refused = (...options: string[]) => script([...options, '--dry-run']).stderr;
    expect(refused('--startup-timeout-s', '3601')).toMatch(
      /^--startup-timeout-s is .* from 60 to 3600, not "3601"/,
    );
    expect(refused('--volume-gb', '513')).toMatch(/^--volume-gb is .* from 1 to 512, not "513"/);
    expect(refused('--download-timeout-s', '1')).toMatch(
      /^--download-timeout-s is .* from 60 to 3600, not "1"/,
    );
    expect(refused('--name', 'my_model')).toMatch(/^--name is at most 63 letters.* not "my_model"/);
    expect(refused('--model', 'gpt-j.zip')).toMatch(/^--model is a .tar.gz/);
    expect(refused('--only', 'push')).toMatch(/^--only has steps of image, .*, not "push"/);
    expect(refused('--what')).toMatch(/^Unknown option '--what'.*--help lists/s);
  });

  it('makes image, model and endpoint in the order of the article, with its three limits', () => {
    const dry = script(['--dry-run', '--only', 'image,model,endpoint']);
    expect(dry).toMatchObject({ status: 0, stderr: '' });
    const limits = ['--volume-gb', '256', '--download-timeout-s', '1800', '--startup-timeout-s', '3600'];
    const environment = ['--env', 'OPTION_DTYPE=int8', '--env', 'HF_TOKEN=hf_"secret'];
    const run = script(['--only', 'image,model,endpoint', ...environment, ...limits]);
    expect(run.status, run.stderr).toBe(0);
    // What it runs is told, secrets are not.
    expect(run.stderr).toContain('"OPTION_DTYPE":"int8","HF_TOKEN":"…"');
    for (const secret of ['a-password', 'secret']) expect(run.stderr).not.toContain(secret);
    expect(calls().map(([program, one, two]) => `${program} ${one} ${two}`)).toEqual([
      'docker build -f',
      'aws ecr describe-repositories',
      'aws ecr create-repository',
      'aws ecr get-login-password',
      'docker login --username',
      'docker tag shardserve',
      `docker push ${REGISTRY}/shardserve:latest`,
      'aws s3 cp',
      'aws sagemaker create-model',
      'aws sagemaker create-endpoint-config',
      'aws sagemaker create-endpoint',
      'aws sagemaker wait',
    ]);
    expect(calls()[4]!.at(-1)).toBe('<a-password-of-twelve-hours');
    expect(made('model-shardserve')).toEqual({
      Image: `${REGISTRY}/shardserve:latest`,
      ModelDataUrl: 's3://my-models/deepspeed/gpt-j.tar.gz',
      Environment: { TENSOR_PARALLEL_DEGREE: '2', OPTION_DTYPE: 'int8', HF_TOKEN: 'hf_"secret' },
    });
    expect(made('config-shardserve')).toMatchObject([
      {
        VolumeSizeInGB: 256,
        ModelDataDownloadTimeoutInSeconds: 1800,
        ContainerStartupHealthCheckTimeoutInSeconds: 3600,
      },
    ]);
    // The lines of the dry run are a shell script that asks for the same.
    const asked = calls().length;
    const shell = spawnSync('bash', ['-c', dry.stdout], {
      ...{ cwd: repositoryRoot, encoding: 'utf8' },
      env: { PATH: `${path.join(scratch, 'bin')}:${process.env.PATH}`, STUB: scratch },
    });
    // The repository is there by now, and the model too, which ends it.
    expect(shell.stderr).toMatch(/already existing model/);
    const again = calls().slice(asked);
    expect(again.map(([, one, two]) => `${one} ${two}`)).toContain('ecr describe-repositories');
    expect(again.map(([, one, two]) => `${one} ${two}`)).not.toContain('ecr create-repository');
  });

  it('asks the endpoint, which is this server with that archive and environment', async () => {
    const container = made<{ Environment: Record<string, string> }>('model-shardserve');
    const opt = path.join(scratch, 'opt-ml-model');
    mkdirSync(opt);
    spawnSync('tar', ['-xzf', path.join(scratch, 'archive'), '-C', opt]);
    server = new ServerProcess(
      {
        ...container.Environment,
        SERVING_MODEL_STORE: opt,
        SERVING_SHARD_STORE: path.join(scratch, 'shards'),
      },
      [],
      ['serve'],
    );
    await server.ready();
    const run = script(['--only', 'invoke', '--input', "It's a king"], { STUB_ENDPOINT: server.url });
    expect(run.status, run.stderr).toBe(0);
    expect(JSON.parse(run.stdout).generated_text).toMatch(/\w+ \w+/);
  });

  it('deletes what it made', () => {
    expect(script(['--delete']).status).toBe(0);
    const last = calls().slice(-3);
    expect(last.map(([, , what]) => what)).toEqual([
      'delete-endpoint',
      'delete-endpoint-config',
      'delete-model',
    ]);
    expect(script(['--delete']).status).toBe(1);
  });
});
