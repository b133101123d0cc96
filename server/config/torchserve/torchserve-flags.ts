/**
 * The flags of `shardserve torchserve`, which are those of `torchserve`.
 *
 * In      the arguments after `torchserve`
 * Errors  CONFIG_INVALID for an unknown flag, a flag without its value, a stray argument
 * Source  TorchServe's command line
 */
import { parseArgs } from 'node:util';
import { ServingError } from '../../../proto/errors.js';
import { nearestName } from '../nearest-name.js';

export interface TorchServeFlags {
  action: 'start' | 'stop' | 'version' | 'help';
  tsConfig: string | null;
  modelStore: string | null;
  workflowStore: string | null;
  /** With commas; null: not given. */
  models: string | null;
  foreground: boolean;
  noSnapshots: boolean;
  disableTokens: boolean;
  enableModelApi: boolean;
}

export const TORCHSERVE_HELP = `Usage: shardserve torchserve --start|--stop|--version [flags]

  --start                    start the server; it goes on in the background unless --foreground is given
  --stop                     end the one that was started from this account, and delete its tokens
  --model-store FOLDER       models: archives (.mar), folders
  --models [NAME=]FILE …     of them, those that are loaded at start; all: every one
  --workflow-store FOLDER    workflows (.war), for registrations; default: the model store
  --ts-config FILE           config.properties; default: TS_CONFIG_FILE, config.properties here, else the newest snapshot
  --ncs                      read and write no snapshots
  --foreground               stay in the foreground
  --disable-token-auth       ask for no token
  --enable-model-api         let models be registered and unregistered
  -v, --version              print the version

--log-config, --cpp-log-config and --ppath are accepted and have no effect. Keys: server/config/KEYS.md.`;

const SWITCHES = {
  start: { type: 'boolean' },
  stop: { type: 'boolean' },
  version: { type: 'boolean', short: 'v' },
  help: { type: 'boolean', short: 'h' },
  foreground: { type: 'boolean' },
  ncs: { type: 'boolean' },
  'no-config-snapshots': { type: 'boolean' },
  'disable-token-auth': { type: 'boolean' },
  'enable-model-api': { type: 'boolean' },
} as const;

const VALUES = {
  'ts-config': { type: 'string' },
  'model-store': { type: 'string' },
  models: { type: 'string' },
  'workflow-store': { type: 'string' },
  'log-config': { type: 'string' },
  'cpp-log-config': { type: 'string' },
  ppath: { type: 'string' },
  'plugins-path': { type: 'string' },
} as const;

const refuse = (message: string): never => {
  throw new ServingError('CONFIG_INVALID', `command line: ${message}`);
};

export function parseTorchServeFlags(argv: readonly string[]): TorchServeFlags {
  const { tokens } = parseArgs({
    args: [...argv],
    strict: false,
    tokens: true,
    allowPositionals: true,
    options: { ...SWITCHES, ...VALUES },
  });
  const given = new Map<string, string | true>();
  const models: string[] = [];
  let inModels = false;
  for (const token of tokens) {
    if (token.kind === 'positional') {
      if (!inModels) refuse(`${token.value} is not expected; models are given by --models`);
      models.push(token.value);
      continue;
    }
    if (token.kind !== 'option') continue;
    inModels = token.name === 'models';
    if (!Object.hasOwn(SWITCHES, token.name) && !Object.hasOwn(VALUES, token.name)) {
      const nearest = nearestName(
        token.rawName,
        [...Object.keys(SWITCHES), ...Object.keys(VALUES)].map((name) => `--${name}`),
      );
      refuse(`${token.rawName} is not a known flag${nearest === null ? '' : `; did you mean ${nearest}?`}`);
    }
    if (Object.hasOwn(SWITCHES, token.name)) {
      given.set(token.name, true);
      continue;
    }
    const value =
      token.value && !token.value.startsWith('--') ? token.value : refuse(`${token.rawName} needs a value`);
    if (inModels) models.push(value);
    else given.set(token.name, value);
  }
  const text = (name: string): string | null => (given.get(name) as string | undefined) ?? null;
  const actions = (['start', 'stop', 'version', 'help'] as const).filter((name) => given.has(name));
  if (actions.length > 1) refuse(`--${actions.join(' and --')} are two things: give one of them`);
  return {
    action: actions[0] ?? 'help',
    tsConfig: text('ts-config'),
    modelStore: text('model-store'),
    workflowStore: text('workflow-store'),
    models: models.length === 0 ? null : models.join(','),
    foreground: given.has('foreground'),
    noSnapshots: given.has('ncs') || given.has('no-config-snapshots'),
    disableTokens: given.has('disable-token-auth'),
    enableModelApi: given.has('enable-model-api'),
  };
}
