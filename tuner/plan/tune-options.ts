/**
 * The command line of `shardserve tune`: a file, options over it, or options alone.
 *
 * In      argv; -f FILE in our form or Model Analyzer's, told by its keys
 * Out     what to do, the plan, where the journal is, notes for people
 * Errors  Error with a sentence
 */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { isAnalyzerConfig, planOfAnalyzer } from './model-analyzer.js';
import { ANALYZER_KEYS } from './model-analyzer-keys.js';
import { readYaml } from './read-yaml.js';
import { planOf, type TunePlan } from './tune-plan.js';
import { checkPlan, type PlanValue, type ValuesValue } from './tune-schema.js';

export const TUNE_HELP = `Usage: shardserve tune [profile|analyze|report] [-f FILE] [options]

  profile (the default)      measure, search, repeat, report; goes on where its journal ends
  analyze, report            judge the journal again under this file's constraints and objectives; measures nothing

  -f, --file FILE            a plan: our YAML (--schema prints its JSON Schema), or Model Analyzer's
  -m, --mode online|offline  Model Analyzer's modes; its other keys as flags too (--run-config-search-mode quick …)
  --model NAME=FOLDER        a model, without a file; may be given again
  --set MODEL.KEY=A,B,C      values of a key of serving.properties to try; MODEL.workers: worker groups; server.KEY: of the server
  --concurrency N,N          clients at once (default 16)     --rate N,N  requests a second, open loop, by Poisson
  --prompt-tokens N          --output-tokens N                --dialect djl|openai|openai-chat|oip-grpc   --no-stream
  --constraint METRIC<=N     or >=; may be given again        --objective METRIC=WEIGHT
  --search grid|climb|tpe|random   --max-measurements N       --seed N      --rounds N (repeats of the best and the default)
  --url URL                  a server that runs already: its load is varied, nothing else
  --output DIR               journal, tables, report, winner (default tune-results)
  --journal FILE             another place for the journal    --force  go on in one of another host or build
  --profile                  time of each rank by part        --keep-requests  every request as a JSON line
  --no-pictures              the page alone, no PNG and PDF of it
  --schema                   print the JSON Schema of a plan

Exit code: 0 fine, 1 nothing met the constraints, 2 nothing could be measured, 130 stopped.`;

export interface TuneOptions {
  command: 'profile' | 'analyze' | 'report';
  plan: TunePlan;
  journal: string;
  force: boolean;
  notes: string[];
}

const OWN = {
  file: { type: 'string', short: 'f' },
  'config-file': { type: 'string' },
  mode: { type: 'string', short: 'm' },
  model: { type: 'string', multiple: true },
  set: { type: 'string', multiple: true },
  concurrency: { type: 'string' },
  rate: { type: 'string' },
  'prompt-tokens': { type: 'string' },
  'output-tokens': { type: 'string' },
  dialect: { type: 'string' },
  'no-stream': { type: 'boolean' },
  constraint: { type: 'string', multiple: true },
  objective: { type: 'string', multiple: true },
  search: { type: 'string' },
  'max-measurements': { type: 'string' },
  seed: { type: 'string' },
  rounds: { type: 'string' },
  url: { type: 'string' },
  output: { type: 'string' },
  journal: { type: 'string' },
  force: { type: 'boolean' },
  profile: { type: 'boolean' },
  'keep-requests': { type: 'boolean' },
  'no-pictures': { type: 'boolean' },
  verbose: { type: 'boolean', short: 'v' },
  quiet: { type: 'boolean', short: 'q' },
} as const;
const COMMANDS = ['profile', 'analyze', 'report'] as const;
const ANALYZER_BOOLEANS = /disable|enable|skip|override|always|collect|use_concurrency/;

/** @throws Error */
export function readOptions(argv: readonly string[]): TuneOptions {
  const analyzer = Object.keys(ANALYZER_KEYS)
    .map((key) => key.replaceAll('_', '-'))
    .filter((key) => !Object.hasOwn(OWN, key));
  const { positionals, values } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      ...OWN,
      ...Object.fromEntries(
        analyzer.map((key) => [
          key,
          {
            type: ANALYZER_BOOLEANS.test(key.replaceAll('-', '_'))
              ? ('boolean' as const)
              : ('string' as const),
          },
        ]),
      ),
    },
  });
  const command = (positionals[0] ?? 'profile') as TuneOptions['command'];
  if (!COMMANDS.includes(command) || positionals.length > 1) {
    throw new Error(`${positionals.join(' ')}: the commands are ${COMMANDS.join(', ')}`);
  }
  const given = values as Record<string, string | boolean | string[] | undefined>;
  const flags = Object.fromEntries(
    analyzer.flatMap((key) => (given[key] === undefined ? [] : [[key, given[key]]])),
  );
  const file = (given.file ?? given['config-file']) as string | undefined;
  const value = file === undefined ? {} : readYaml(file);
  const folder = file === undefined ? process.cwd() : path.dirname(path.resolve(file));
  if (isAnalyzerConfig(value) || Object.hasOwn(flags, 'profile-models')) {
    const mode = (given.mode ?? 'online') as 'online' | 'offline';
    if (mode !== 'online' && mode !== 'offline')
      throw new Error(`--mode is ${String(mode)}; it must be online or offline`);
    const analyzed = planOfAnalyzer(value, flags);
    // As Model Analyzer has it: relative to where it runs, not to the file.
    const plan = planOf(checkPlan(overlaid(analyzed.value, given), file ?? 'the options'), process.cwd());
    return {
      command,
      plan,
      journal: path.resolve(
        (given.journal as string | undefined) ?? path.join(analyzed.checkpoints, 'journal.jsonl'),
      ),
      force: given.force === true,
      notes: analyzed.notes,
    };
  }
  if (Object.keys(flags).length > 0) {
    throw new Error(
      `--${Object.keys(flags)[0]} is Model Analyzer's: it goes with a file of its form, or --profile-models`,
    );
  }
  const plan = planOf(checkPlan(overlaid(value as Partial<PlanValue>, given), file ?? 'the options'), folder);
  return {
    command,
    plan,
    journal: path.resolve((given.journal as string | undefined) ?? path.join(plan.output, 'journal.jsonl')),
    force: given.force === true,
    notes: [],
  };
}

type Given = Record<string, string | boolean | string[] | undefined>;

/** Options over the file: as a value that the schema checks with the rest. */
function overlaid(value: Partial<PlanValue>, given: Given): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const plan = structuredClone(value) as Record<string, Record<string, unknown>> & Partial<PlanValue>;
  const under = (name: string): Record<string, unknown> => {
    plan[name] ??= {};
    return plan[name] as Record<string, unknown>;
  };
  for (const text of (given.model as string[] | undefined) ?? []) {
    const [name, folder] = halves(text, '=', '--model is NAME=FOLDER');
    // From the working folder, not the file's.
    (under('models') as Record<string, object>)[name] = {
      ...(plan.models?.[name] ?? {}),
      path: path.resolve(folder),
    };
  }
  for (const text of (given.set as string[] | undefined) ?? []) {
    const [name, list] = halves(text, '=', '--set is MODEL.KEY=A,B,C');
    const [model, key] = halves(name, '.', '--set is MODEL.KEY=A,B,C');
    const target = model === 'server' ? under('server') : part(under('models'), model);
    target.space = { ...((target.space as object | undefined) ?? {}), [key]: list.split(',').map(scalar) };
  }
  const numbers = (text: string): ValuesValue => text.split(',').map(Number);
  if (typeof given.concurrency === 'string') under('load').concurrency = numbers(given.concurrency);
  if (typeof given.rate === 'string') under('load').rate = numbers(given.rate);
  if (typeof given['prompt-tokens'] === 'string')
    under('request').prompt_tokens = Number(given['prompt-tokens']);
  if (typeof given['output-tokens'] === 'string')
    under('request').output_tokens = Number(given['output-tokens']);
  if (typeof given.dialect === 'string') under('request').dialect = given.dialect;
  if (given['no-stream'] === true) under('request').stream = false;
  if (typeof given.search === 'string') under('search').mode = given.search;
  if (typeof given['max-measurements'] === 'string')
    under('search').max_measurements = Number(given['max-measurements']);
  if (typeof given.seed === 'string') under('search').seed = Number(given.seed);
  if (typeof given.rounds === 'string') under('compare').rounds = Number(given.rounds);
  if (typeof given.url === 'string') under('server').url = given.url;
  for (const text of (given.constraint as string[] | undefined) ?? []) {
    const [, metric, sign, limit] = /^([a-z0-9_]+)(<=|>=)(.+)$/.exec(text) ?? [];
    if (!metric || !sign || !limit)
      throw new Error(`--constraint is ${text}; it must be METRIC<=N or METRIC>=N`);
    const limits = part(under('constraints'), metric);
    limits[sign === '<=' ? 'max' : 'min'] = Number(limit);
  }
  for (const text of (given.objective as string[] | undefined) ?? []) {
    const [metric, weight = '1'] = text.split('=');
    under('objectives')[metric!] = Number(weight);
  }
  const whole = plan as Record<string, unknown>;
  if (typeof given.output === 'string') whole.output = path.resolve(given.output);
  if (given.profile === true) whole.profile = true;
  if (given['keep-requests'] === true) whole.keep_requests = true;
  if (given['no-pictures'] === true) whole.pictures = false;
  return plan;
}

/** A map within a map, made when it is missing. */
function part(whole: Record<string, unknown>, name: string): Record<string, unknown> {
  whole[name] ??= {};
  return whole[name] as Record<string, unknown>;
}

/** Cut at the first sign. */
function halves(text: string, sign: string, sentence: string): [string, string] {
  const at = text.indexOf(sign);
  if (at <= 0 || at === text.length - 1) throw new Error(`${sentence}, got ${text}`);
  return [text.slice(0, at), text.slice(at + 1)];
}

function scalar(text: string): string | number | boolean {
  if (text === 'true' || text === 'false') return text === 'true';
  return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text;
}
