/**
 * A suite of cases: what is measured each time, so that a change shows.
 *
 * In      our YAML (suite, defaults, cases), or TorchServe's
 * Out     cases with a plan each
 * Errors  Error naming file and field
 */
import path from 'node:path';
import { readYaml } from '../plan/read-yaml.js';
import { planOf, type TunePlan } from '../plan/tune-plan.js';
import { checkPlan, type PlanValue } from '../plan/tune-schema.js';
import { METRICS, type Metric } from '../units/metrics.js';
import { isTorchServeConfig, type TorchServeCase, torchServeCases } from './torchserve-suite.js';

export interface BenchmarkCase {
  name: string;
  plan: TunePlan;
  /** What TorchServe's tables say of it; null: it is none of its. */
  torchServe: TorchServeCase | null;
}

export interface Suite {
  name: string;
  repeats: number;
  cases: BenchmarkCase[];
  compare: { metrics: Metric[]; alpha: number; leastEffect: number };
  notes: string[];
}

const COMPARED: readonly Metric[] = [
  ...(['throughput_per_s', 'latency_p50_ms', 'latency_p99_ms', 'first_token_p99_ms'] as const),
  ...(['token_gap_p99_ms', 'tokens_out_per_s', 'memory_bytes', 'error_share'] as const),
];
const REPEATS = 5;
/** Five against five can give 0.008. */
const ALPHA = 0.02;
const LEAST_EFFECT = 0.05;
const KEYS = ['suite', 'repeats', 'defaults', 'cases', 'compare'];

type Fields = Record<string, unknown>;

export function readSuite(file: string): Suite {
  const value = readYaml(file);
  const folder = path.dirname(path.resolve(file));
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Error(`${file} is no map of keys`);
  const compare = { metrics: [...COMPARED], alpha: ALPHA, leastEffect: LEAST_EFFECT };
  if (isTorchServeConfig(value)) {
    const { cases, notes } = torchServeCases(value, file, (other) => readYaml(path.resolve(folder, other)));
    return {
      name: path.basename(file).replace(/\.ya?ml$/, ''),
      repeats: 1,
      cases: cases.map((one) => ({
        name: one.name,
        plan: planOf(checkPlan(one.plan, `${file}: ${one.name}`), folder),
        torchServe: one,
      })),
      compare,
      notes,
    };
  }
  const given = value as Fields;
  const unknown = Object.keys(given).find((key) => !KEYS.includes(key));
  if (unknown !== undefined)
    throw new Error(`${file}: ${unknown} is no key of a suite; there are ${KEYS.join(', ')}`);
  const cases = fields(given.cases, `${file}: cases`);
  if (Object.keys(cases).length === 0) throw new Error(`${file}: cases is empty`);
  const defaults = given.defaults === undefined ? {} : fields(given.defaults, `${file}: defaults`);
  return {
    name: typeof given.suite === 'string' ? given.suite : path.basename(file).replace(/\.ya?ml$/, ''),
    repeats: whole(given.repeats, REPEATS, `${file}: repeats`),
    cases: Object.entries(cases).map(([name, one]) => ({
      name,
      plan: casePlan(defaults, fields(one, `${file}: cases.${name}`), `${file}: cases.${name}`, folder),
      torchServe: null,
    })),
    compare: comparison(given.compare, compare, file),
    notes: [],
  };
}

function casePlan(defaults: Fields, own: Fields, where: string, folder: string): TunePlan {
  const merged = merge(defaults, own) as Partial<PlanValue>;
  const plan = planOf(checkPlan(merged, where), folder);
  if (plan.dimensions.length > 0) throw new Error(`${where}: a case has no space; \`tune\` searches`);
  if (plan.loads.length !== 1) throw new Error(`${where}: a case has one load, not ${plan.loads.length}`);
  return plan;
}

function comparison(given: unknown, usual: Suite['compare'], file: string): Suite['compare'] {
  if (given === undefined) return usual;
  const { alpha, least_effect: leastEffect, metrics } = fields(given, `${file}: compare`);
  const names = metrics === undefined ? usual.metrics : (metrics as string[]);
  const odd = names.find((name) => !Object.hasOwn(METRICS, name));
  if (odd !== undefined) throw new Error(`${file}: compare.metrics names ${odd}, which is no metric`);
  return {
    metrics: names as Metric[],
    alpha: typeof alpha === 'number' ? alpha : usual.alpha,
    leastEffect: typeof leastEffect === 'number' ? leastEffect : usual.leastEffect,
  };
}

/** Maps into each other, anything else by the stronger; null takes a default away. */
function merge(weak: unknown, strong: unknown): unknown {
  if (!isFields(weak) || !isFields(strong)) return strong === undefined ? weak : strong;
  const keys = [...new Set([...Object.keys(weak), ...Object.keys(strong)])];
  return Object.fromEntries(
    keys.filter((key) => strong[key] !== null).map((key) => [key, merge(weak[key], strong[key])]),
  );
}

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function fields(value: unknown, where: string): Fields {
  if (isFields(value)) return value;
  throw new Error(`${where} is ${JSON.stringify(value)}; it must be a map`);
}

function whole(value: unknown, usual: number, where: string): number {
  if (value === undefined) return usual;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 1000) return value;
  throw new Error(`${where} is ${JSON.stringify(value)}; it must be a whole number from 1 to 1000`);
}
