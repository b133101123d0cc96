/** Which paths a management request may register, and where links of such a model may lead. */
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../../server/config/load-config.js';
import { type FetchPolicy, fetchModel } from '../../../server/model-store/fetch-model.js';
import { RegistrationFolders } from '../../../server/model-store/registration-folders.js';

const root = realpathSync(mkdtempSync(path.join(tmpdir(), 'shardserve-places-')));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const modelStore = path.join(root, 'store');
const elsewhere = model('elsewhere/m');
const secret = path.join(root, 'secret.json');
writeFileSync(secret, 'canary');
mkdirSync(modelStore);

function model(name: string): string {
  const folder = path.join(root, name);
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'config.json'), '{}');
  return folder;
}

const policy = { modelStore, allowedHosts: [] } as unknown as FetchPolicy;

/** @param more registration_folders; null: the operator asks */
const find = async (url: string, more: readonly string[] | null = []) => {
  const within = more === null ? null : new RegistrationFolders([modelStore, ...more]);
  const { folder } = await fetchModel({ url, downloadFolder: path.join(root, 'd'), policy, within });
  return folder;
};

const refused = { code: 'MODEL_NOT_FOUND', message: expect.stringContaining('registration_folders') };

describe('a path that a request registers', () => {
  it('lies below the model store', async () => {
    const folder = model('store/a');
    expect(await find(folder)).toBe(folder);
    expect(await find('./a')).toBe(folder);
    expect(await find(`file://${folder}`)).toBe(folder);
  });

  it('lies nowhere else, whether there is something or not', async () => {
    for (const url of [
      elsewhere,
      `file://${elsewhere}`,
      '../elsewhere/m',
      `${modelStore}/../elsewhere/m`,
      '/no',
    ])
      await expect(find(url)).rejects.toMatchObject(refused);
    expect(await find(elsewhere, null)).toBe(elsewhere);
  });

  it('is not reached by a link in the store either', async () => {
    symlinkSync(path.dirname(elsewhere), path.join(modelStore, 'innocent'));
    await expect(find('./innocent/m')).rejects.toMatchObject(refused);
    await expect(find('./innocent/not-there')).rejects.toMatchObject(refused);
  });

  it('lies where the operator allows it', async () => {
    expect(await find(elsewhere, [path.join(root, 'elsewhere')])).toBe(elsewhere);
    expect(await find(elsewhere, ['*'])).toBe(elsewhere);
  });
});

describe('files of a folder that a request registers', () => {
  it.each(['tokenizer.json', 'model.safetensors', '1_Pooling/config.json'])(
    'are no links out of it: %s',
    async (name) => {
      const folder = model(`store/linked-${name.replace(/\W/g, '')}`);
      mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
      symlinkSync(secret, path.join(folder, name));
      for (const more of [[], ['*']]) {
        await expect(find(folder, more)).rejects.toMatchObject({
          code: 'CHECKPOINT_INVALID',
          message: expect.stringContaining(`${name} is a link out of`),
        });
      }
      expect(await find(folder, null)).toBe(folder);
      expect(await find(folder, [root])).toBe(folder);
    },
  );

  it('may be links inside it', async () => {
    const folder = model('store/inside');
    symlinkSync('config.json', path.join(folder, 'tokenizer.json'));
    expect(await find(folder)).toBe(folder);
  });
});

it('registration_folders is a list of folders, from the file that names them, or *', () => {
  const load = (value: string) =>
    loadConfig({
      argv: [],
      env: { SERVING_LOAD_MODELS: 'NONE', SERVING_REGISTRATION_FOLDERS: value },
      cwd: root,
      installation: root,
    }).server.registrationFolders;
  expect(load('elsewhere, /srv/models')).toEqual([path.join(root, 'elsewhere'), '/srv/models']);
  expect(load('*')).toEqual(['*']);
});
