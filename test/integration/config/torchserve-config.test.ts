/** TorchServe's configuration: file, environment, flags, snapshots; what is refused is told with its line. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadTorchServe } from '../../../server/config/torchserve/load-torchserve.js';

const root = mkdtempSync(path.join(tmpdir(), 'shardserve-ts-config-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let count = 0;

function load(files: Record<string, string>, argv: string[] = [], env: Record<string, string> = {}) {
  const cwd = path.join(root, String(count++));
  mkdirSync(path.join(cwd, 'store'), { recursive: true });
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(cwd, file)), { recursive: true });
    writeFileSync(path.join(cwd, file), text);
  }
  const config = loadTorchServe({ argv: ['--start', ...argv], env, cwd, installation: cwd });
  return { config, server: config.server, torchServe: config.torchServe!, cwd };
}
const STORE = ['--model-store', 'store'];

describe("TorchServe's configuration", () => {
  it("has TorchServe's defaults: three addresses, tokens, no model API, a queue of 100", () => {
    const { config, server, torchServe } = load({}, STORE);
    const ports = [server.inferenceAddress, server.managementAddress, server.metricsAddress!].map(
      ({ port }) => port,
    );
    expect(ports).toEqual([8080, 8081, 8082]);
    expect(torchServe).toMatchObject({
      ...{ enableModelApi: false, disableTokens: false, tokenExpirationMinutes: 60, metricsMode: 'log' },
      ...{ grpcInferenceAddress: { host: '127.0.0.1', port: 7070 }, startupModels: [], noSnapshots: false },
    });
    expect(server).toMatchObject({
      anonymousScopes: ['metrics'],
      insecure: false,
      maxRequestBytes: 6_553_500,
    });
    const registration = { name: 'm', version: '1.0', url: 'x', where: 'test', arguments: {} };
    expect(config.configure(registration, null).config.jobQueueSize).toBe(100);
  });

  it('is read from the file, with keys of this server too; flags win over it, TS_ variables over both', () => {
    const file = `
management_address=http://127.0.0.1:9081
job_queue_size=7
default_response_timeout=11
enable_envvars_config=true
disable_token_authorization=false
token_expiration_min=5
model_store=$$HOUSE$$/store
option.dtype=int8
async_logging=true
`;
    const env = { TS_CONFIG_FILE: 'own.properties', TS_JOB_QUEUE_SIZE: '9', HOUSE: '.' };
    const { config, server, torchServe, cwd } = load(
      { 'own.properties': file },
      ['--disable-token-auth'],
      env,
    );
    expect(server.managementAddress.port).toBe(9081);
    expect(server.modelStore).toBe(path.join(cwd, 'store'));
    expect(server.insecure).toBe(true);
    expect(torchServe).toMatchObject({ disableTokens: true, tokenExpirationMinutes: 5 });
    const registration = { name: 'm', version: '1.0', url: 'x', where: 'test', arguments: {} };
    expect(config.configure(registration, null).config).toMatchObject({
      ...{ jobQueueSize: 9, stepTimeoutSeconds: 11, dtype: 'int8' },
    });
    expect(config.warnings).toContain(
      'own.properties:10: async_logging has no effect here: the log never waits',
    );
  });

  it('reads no TS_ variable unless the file says so', () => {
    const { torchServe } = load({ 'config.properties': 'enable_model_api=false' }, STORE, {
      TS_ENABLE_MODEL_API: 'true',
    });
    expect(torchServe.enableModelApi).toBe(false);
  });

  it('names file, line, key, value and range of all that is wrong', () => {
    const file = 'job_queue_sise=1\ndecode_input_request=false\ntoken_expiration_min=0\nmodels={\n';
    expect(() => load({ 'config.properties': file }, STORE)).toThrow(
      `config.properties:1: job_queue_sise is not a known key; did you mean job_queue_size?
config.properties:2: decode_input_request=false: a handler gets JSON parsed and text as text
config.properties:3: token_expiration_min is 0; it must be a whole number from 1 to 525600 minutes
config.properties:4: models is {; it must be JSON`,
    );
    expect(() => load({}, [])).toThrow(/^model_store: say where the models are/);
    expect(() => load({}, [...STORE, '--models', 'a=absent.mar'])).toThrow('Model not found at: absent.mar');
    expect(() => load({}, ['--model-stor', 'x'])).toThrow('did you mean --model-store?');
  });

  it('speaks TLS by the keys of its file', () => {
    const file = `
inference_address=https://127.0.0.1:8443
certificate_file=cert.pem
private_key_file=key.pem
keystore_pass=changed
keystore_type=PKCS12
`;
    const { server, cwd } = load({ 'config.properties': file }, STORE);
    expect(server.inferenceAddress).toMatchObject({ host: '127.0.0.1', port: 8443, tls: true });
    expect(server).toMatchObject({
      certificateFile: path.join(cwd, 'cert.pem'),
      privateKeyFile: path.join(cwd, 'key.pem'),
      keystorePass: 'changed',
    });
  });

  it('names the models of the start: by flags, all of the store, or a snapshot', () => {
    const files = { 'store/a.mar': '', 'store/b.mar': '', 'store/notes.txt': '' };
    const named = load(files, [...STORE, '--models', 'x=a.mar', 'b.mar']);
    expect(named.torchServe.startupModels.map(({ name, shown }) => [name, shown])).toEqual([
      ['x', 'a.mar'],
      [null, 'b.mar'],
    ]);
    expect(load(files, [...STORE, '--models', 'all']).torchServe.startupModels).toHaveLength(2);
    const snapshot = (mar: string) =>
      `model_store=../../store\nmodel_snapshot={"name":"s","modelCount":1,"models":{"m":{"2.0":{"defaultVersion":true,"marName":"${mar}","minWorkers":3}}}}\n`;
    const snapshots = {
      ...files,
      'logs/config/20240101000000000-startup.cfg': snapshot('a.mar'),
      'logs/config/20240101000000001-shutdown.cfg': snapshot('b.mar'),
    };
    const restored = load(snapshots, ['--models', 'x=a.mar']).torchServe;
    expect(restored.startupModels.map(({ name, shown }) => [name, shown])).toEqual([['m', 'b.mar']]);
    expect(restored.snapshot).toMatchObject({ m: { '2.0': { minWorkers: 3 } } });
    expect(load(snapshots, [...STORE, '--ncs', '--models', 'x=a.mar']).torchServe.snapshot).toBe(null);
  });
});
