/** What a model that was fetched or registered may say in its own serving.properties. */
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../../server/config/load-config.js';

const root = realpathSync(mkdtempSync(path.join(tmpdir(), 'shardserve-trust-')));
const downloads = path.join(root, 'downloads');
const secret = path.join(root, 'token');
writeFileSync(secret, 'canary');
afterAll(() => rmSync(root, { recursive: true, force: true }));

function configure(
  folder: string,
  properties: string,
  operator: Record<string, string> = {},
  url = 'https://h/m.zip',
) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'config.json'), '{}');
  writeFileSync(path.join(folder, 'serving.properties'), properties);
  const env = { SERVING_LOAD_MODELS: 'NONE', SERVING_DOWNLOAD_DIR: downloads, ...operator };
  const config = loadConfig({ argv: [], env, cwd: root, installation: root });
  const registration = {
    name: 'm',
    version: null,
    url,
    where: 'registration',
    arguments: {},
  };
  return config.configure(registration, folder);
}

describe('a model that was fetched', () => {
  const fetched = path.join(downloads, 'm-1');

  it.each([
    ['an absolute path', `option.chat_template=${secret}`],
    ['a path upwards', 'option.chat_template=../../token'],
    ['a checkpoint elsewhere', 'option.model_id=/etc'],
    ['a checkpoint by a file URL', 'option.model_id=file:///etc'],
  ])('names no file outside itself: %s', (_how, properties) => {
    expect(() => configure(fetched, properties)).toThrow("outside the model's folder");
    expect(() => configure(fetched, properties)).not.toThrow('canary');
  });

  it('names none by a link either', () => {
    mkdirSync(fetched, { recursive: true });
    symlinkSync(secret, path.join(fetched, 'innocent.jinja'));
    expect(() => configure(fetched, 'option.chat_template=innocent.jinja')).toThrow(
      "outside the model's folder",
    );
  });

  it('has its own template', () => {
    mkdirSync(fetched, { recursive: true });
    writeFileSync(path.join(fetched, 'own.jinja'), '{{ own }}');
    expect(configure(fetched, 'option.chat_template=own.jinja').config.chatTemplate).toBe('{{ own }}');
    expect(configure(fetched, 'option.chat_template={{ inline }}').config.chatTemplate).toBe('{{ inline }}');
  });

  it('takes no resources of its own will', () => {
    const { config, warnings } = configure(
      fetched,
      'required_memory_mb=1\noption.threads_per_rank=1024\nminWorkers=64\nmaxWorkers=64\noption.dtype=int8',
    );
    expect(config).toMatchObject({ requiredMemoryMb: 0, threadsPerRank: null, minGroups: 1, maxGroups: 1 });
    expect(config.dtype).toBe('int8');
    expect(warnings.filter((line) => line.includes('sets no resources'))).toHaveLength(4);
  });
});

describe('a folder that a request registers', () => {
  it('may set its resources, and still names no template outside itself', () => {
    const folder = path.join(root, 'elsewhere');
    expect(configure(folder, 'option.threads_per_rank=3').config.threadsPerRank).toBe(3);
    expect(() => configure(folder, `option.chat_template=${secret}`)).toThrow("outside the model's folder");
  });

  it('does not override the resources that the operator has set for all models', () => {
    const folder = path.join(root, 'greedy');
    const greedy =
      'required_memory_mb=1\noption.threads_per_rank=1024\nminWorkers=64\ncpu.maxWorkers=64\njob_queue_size=7';
    const { config, warnings } = configure(folder, greedy, {
      ...{ SERVING_REQUIRED_MEMORY_MB: '900', OPTION_THREADS_PER_RANK: '2', SERVING_MAX_WORKERS: '3' },
    });
    expect(config).toMatchObject({ requiredMemoryMb: 900, threadsPerRank: 2, minGroups: 1, maxGroups: 3 });
    expect(config.jobQueueSize).toBe(7);
    expect(warnings.filter((line) => line.includes('does not override'))).toHaveLength(4);
  });
});

describe('the handler of a model', () => {
  const withHandler = (folder: string): string => {
    mkdirSync(folder, { recursive: true });
    writeFileSync(path.join(folder, 'model.ts'), '');
    return folder;
  };
  const fetched = withHandler(path.join(downloads, 'h-1'));
  const TRUST = { OPTION_TRUST_REMOTE_CODE: 'true' };

  it('that was fetched does not run, whatever the model says of itself', () => {
    for (const properties of ['', 'engine=Handler', 'option.trust_remote_code=true']) {
      expect(() => configure(fetched, properties)).toThrow('code that came from elsewhere');
    }
  });

  it('runs where the operator trusts it for all models, or names an archive of this host', () => {
    expect(configure(fetched, '', TRUST).config).toMatchObject({ engine: 'handler', folder: fetched });
    expect(configure(fetched, '', {}, '/models/m.tar.gz').config.engine).toBe('handler');
  });

  it('is also a pipeline pack', () => {
    const pack = path.join(downloads, 'p-1');
    mkdirSync(pack, { recursive: true });
    writeFileSync(path.join(pack, 'model.spec.json'), '{}');
    expect(() => configure(pack, '')).toThrow('code that came from elsewhere');
    expect(configure(pack, '', TRUST).config.entryPoint).toBe('builtin:pipeline');
  });

  it('in a folder of this host runs, and is not taken from a checkpoint elsewhere', () => {
    const folder = withHandler(path.join(root, 'own'));
    const { config } = configure(folder, 'option.model_id=hf://somebody/something');
    expect(config).toMatchObject({ engine: 'handler', folder, checkpointUrl: null });
  });
});
