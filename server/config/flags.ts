/**
 * The flags of `shardserve start`, as DJLServing has them, and the argument that SageMaker starts a container with.
 *
 * In      the arguments after `start`
 * Errors  CONFIG_INVALID for an unknown flag, a flag without its value, a stray argument
 */
import { parseArgs } from 'node:util';
import { ServingError } from '../../proto/errors.js';
import { environmentOfFlag } from './key-table.js';
import { nearestName } from './nearest-name.js';

export interface Flags {
  /** Path of a config.properties, as given. */
  configFile: string | null;
  /** `load_models`, as given; several arguments after -m are one list. */
  models: string | null;
  modelStore: string | null;
  /** The host of inference_address, as given. */
  host: string | null;
  port: string | null;
  /** `serve` alone: SageMaker's container contract gives the defaults. */
  serve: boolean;
  help: boolean;
}

export const START_HELP = `Usage: npm start -- [flags]      or  npx shardserve start [flags]

  -f, --config-file FILE    read server-wide keys from FILE too (after serving.properties of the working directory)
  -m, --models MODEL…       models to load: ALL, NONE, or [name[:version[:engine[:devices]]]=]WHERE, several divided by blanks or
                            commas; WHERE is a folder or archive (of the model store, or any path), a URL (http, s3, hf), or ORG/NAME of the hub
  -s, --model-store FOLDER  folder of models
  --port N, --host HOST     where to listen; the strongest of all places (the environment's PORT is the weakest)
  serve                     first argument: the defaults are those of a SageMaker container (all interfaces, port 8080, /opt/ml/model);
                            with a model behind it (serve ./my_model) the same as -m
  -h, --help                print this

Keys and environment variables: server/config/KEYS.md.`;

const FLAG_NAMES = [
  '-f',
  '--config-file',
  '-m',
  '--models',
  '-s',
  '--model-store',
  '--host',
  '--port',
  '-h',
  '--help',
];

function refuse(message: string): never {
  throw new ServingError('CONFIG_INVALID', `command line: ${message}`);
}

export function parseFlags(argv: readonly string[]): Flags {
  const isServe = argv[0] === 'serve';
  const own = argv.slice(isServe ? 1 : 0);
  // A person names what is to be served, SageMaker does not.
  const isNamed = isServe && own[0] !== undefined && !own[0].startsWith('-');
  const serve = isServe && !isNamed;
  const { tokens } = parseArgs({
    args: isNamed ? ['-m', ...own] : own,
    strict: false,
    tokens: true,
    allowPositionals: true,
    options: {
      'config-file': { type: 'string', short: 'f' },
      models: { type: 'string', short: 'm' },
      'model-store': { type: 'string', short: 's' },
      host: { type: 'string' },
      port: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  const flags: Flags = {
    ...{ configFile: null, models: null, modelStore: null, host: null, port: null, serve, help: false },
  };
  let inModels = false;
  const requireValue = (token: { rawName: string; value: string | undefined }): string =>
    token.value && !token.value.startsWith('-') ? token.value : refuse(`${token.rawName} needs a value`);
  for (const token of tokens) {
    if (token.kind === 'positional') {
      if (!inModels) refuse(`${token.value} is not expected; models are given by -m`);
      flags.models += ` ${token.value}`;
      continue;
    }
    if (token.kind !== 'option') continue;
    inModels = token.name === 'models';
    if (token.name === 'config-file') flags.configFile = requireValue(token);
    else if (token.name === 'models') flags.models = requireValue(token);
    else if (token.name === 'model-store') flags.modelStore = requireValue(token);
    else if (token.name === 'host') flags.host = requireValue(token);
    else if (token.name === 'port') flags.port = requireValue(token);
    else if (token.name === 'help') flags.help = true;
    else if (token.rawName === '-i') refuse('-i installs Maven packages, which have no use here');
    else {
      const nearest = nearestName(token.rawName, FLAG_NAMES);
      const variable = environmentOfFlag(token.name);
      const meant = variable === null ? nearest : `${variable}=… in the environment`;
      refuse(`${token.rawName} is not a known flag${meant ? `; did you mean ${meant}?` : ''}`);
    }
  }
  return flags;
}
