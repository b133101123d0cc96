/** The text of KEYS.md, made from the key table, so that what is written is what is done. `npm run docs` writes it. */
import type { KeyRow } from './key-row.js';
import { KEY_TABLE, type WorkingStatus } from './key-table.js';
import { TORCHSERVE_DEFAULTS, TORCHSERVE_KEYS, type TorchServeRow } from './torchserve/torchserve-keys.js';

const INTRO = `# Keys

Made from the key table by \`npm run docs\`; a test compares. Do not edit.

Where a key may stand: *server-wide* in \`serving.properties\` of the working directory, in the file of \`-f\`, or in the
environment; *of a model* in \`serving.properties\` of the model's folder, or server-wide as every model's default.
What wins, for a key of a model: arguments of the registration, the model's file, the environment, \`-f\`, the root's file, the default.
For a server-wide key: the environment, flags, \`-f\`, the root's file, the default.
A key in no table here, or a value out of its range, is an error at start that names file, line, key, value and range; an \`option.\` in
no table is a warning, as LMI passes such on, unless it is a slip of the keys away from one that is.
An environment variable in no table is somebody else's, unless it starts with \`OPTION_\` or \`SERVING_\`: then there is a warning.`;

const cell = (text: string): string => text.replaceAll('|', '\\|');
const code = (text: string): string => `\`${text}\``;
const envCell = (row: KeyRow): string => row.env.map(code).join(', ');

function defaultCell({ defaultValue }: WorkingStatus): string {
  if (defaultValue === null || defaultValue === '') return '–';
  if (Array.isArray(defaultValue)) return defaultValue.length === 0 ? 'none' : code(defaultValue.join(','));
  if (typeof defaultValue !== 'object') return code(String(defaultValue));
  const address = defaultValue as { host?: string; port?: number };
  if (address.host === undefined) return 'none';
  return code(`http://${address.host}:${address.port}`);
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map(cell).join(' | ')} |`;
  return [line(head), `|${head.map(() => '---').join('|')}|`, ...rows.map(line)].join('\n');
}

function workingTable(scope: KeyRow['scope']): string {
  const rows = KEY_TABLE.flatMap((row) =>
    row.scope === scope && row.status.kind === 'works'
      ? [[code(row.name), row.what, row.status.type.expects, defaultCell(row.status), envCell(row)]]
      : [],
  );
  return table(['Key', 'What it is', 'Values', 'Default', 'Environment'], rows);
}

function mappedTable(): string {
  const rows = KEY_TABLE.flatMap((row) =>
    row.status.kind === 'mapped' ? [[code(row.name), code(row.status.to), envCell(row)]] : [],
  );
  return table(['Key', 'The same as', 'Environment'], rows);
}

function elsewhereTable(): string {
  const rows = KEY_TABLE.flatMap((row) =>
    row.status.kind === 'elsewhere' ? [[envCell(row), row.what]] : [],
  );
  return table(['Environment', 'What it is'], rows);
}

function noEffectTable(): string {
  const rows = KEY_TABLE.flatMap((row) =>
    row.status.kind === 'noEffect'
      ? [[row.scope === 'environment' ? '' : code(row.name), envCell(row), row.status.reason]]
      : [],
  );
  return table(['Key', 'Environment', 'Why'], rows);
}

function refusedTable(): string {
  const rows = KEY_TABLE.flatMap((row) =>
    row.status.kind === 'refused'
      ? [
          [
            row.scope === 'environment' ? '' : code(row.name),
            envCell(row),
            row.status.unless.map(code).join(', ') || '–',
            row.status.because,
          ],
        ]
      : [],
  );
  return table(['Key', 'Environment', 'Accepted values', 'Why'], rows);
}

const TORCHSERVE_INTRO = `\`shardserve torchserve\` reads TorchServe's \`config.properties\` (\`--ts-config\`, \`TS_CONFIG_FILE\`, \`config.properties\` of the working
directory, else the newest snapshot). The environment wins over flags, flags over the file: \`TS_\` and a key in capitals, with \`enable_envvars_config=true\`.
Keys of the tables above may stand there too.`;

/** What becomes of one of TorchServe's keys, in a few words. */
function outcomeOf({ name, status, what }: TorchServeRow): readonly string[] {
  switch (status.kind) {
    case 'works':
      return [what, status.type.expects, defaultCell(status)];
    case 'mapped': {
      const target = status.to === name ? 'the same key here' : `the same as ${code(status.to)}`;
      return [target, '', TORCHSERVE_DEFAULTS[name] === undefined ? '' : code(TORCHSERVE_DEFAULTS[name])];
    }
    case 'noEffect':
      return [`no effect: ${status.reason}`, '', ''];
    case 'refused': {
      const others = status.unless.filter((word) => word !== '').map(code);
      return [`refused: ${status.because}`, others.join(', '), ''];
    }
  }
}

function torchServeTable(): string {
  const rows = TORCHSERVE_KEYS.map((row) => [code(row.name), ...outcomeOf(row)]);
  return table(['Key', 'What becomes of it', 'Values', 'Default'], rows);
}

/** The whole file, ending in a line break. */
export function keyTableMarkdown(): string {
  return `${[
    INTRO,
    '## Server-wide',
    workingTable('server'),
    '## Of a model',
    workingTable('model'),
    '## Other names',
    mappedTable(),
    '## The environment alone',
    elsewhereTable(),
    '## Known, without effect here',
    'Giving one logs one warning with the reason.',
    noEffectTable(),
    '## Refused',
    'Any other value than the accepted ones ends the start.',
    refusedTable(),
    "## TorchServe's keys",
    TORCHSERVE_INTRO,
    torchServeTable(),
  ].join('\n\n')}\n`;
}
