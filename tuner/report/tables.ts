/**
 * Tables of an outcome: rows once, written as CSV or Markdown.
 *
 * In      an outcome
 * Out     Model Analyzer's tables in its file names, columns and order; our own with every metric
 * Source  Model Analyzer's defaults of *_output_fields
 */
import type { TunePlan } from '../plan/tune-plan.js';
import type { Measurement } from '../run/measurement.js';
import type { Outcome, VariantOutcome } from '../run/outcome.js';
import { modelSettings } from '../target/variant-folder.js';
import type { Figures } from '../units/metrics.js';
import { METRIC_NAMES } from '../units/metrics.js';
import { settingsWords } from './settings-words.js';

export type Cell = string | number | null;
export interface Table {
  columns: string[];
  rows: Cell[][];
}

/** metrics-model-inference.csv: those that pass first. */
export function inferenceTable(outcome: Outcome, plan: TunePlan): Table {
  const isRate = plan.loads[0]?.kind === 'rate';
  const hasTokens = anyFigure(outcome, 'tokens_out_per_s');
  const columns = [
    ...['Model', 'Batch', isRate ? 'Request Rate' : 'Concurrency', 'Model Config Path', 'Instance Group'],
    ...['Max Batch Size', 'Satisfies Constraints', 'Throughput (infer/sec)', 'p99 Latency (ms)'],
    ...(hasTokens
      ? [
          'p99 Inter Token Latency (ms)',
          'p99 Time To First Token (ms)',
          'Output Token Throughput (tokens/sec)',
        ]
      : []),
  ];
  const rows = ordered(outcome).flatMap(({ measurement, variant }) =>
    plan.models.map(({ name, request }): Cell[] => {
      const { figures } = measurement.models[name]!;
      const passes = variant.passes && isPassing(measurement, plan);
      return [
        ...[name, rowsOf(request.inputs), measurement.load.value, variant.name],
        instanceGroup(variant, name),
        batchOf(variant, name),
        passes ? 'Yes' : 'No',
        rounded(figures.throughput_per_s, 1),
        rounded(figures.latency_p99_ms, 3),
        ...(hasTokens
          ? [
              rounded(figures.token_gap_p99_ms, 3),
              rounded(figures.first_token_p99_ms, 3),
              rounded(figures.tokens_out_per_s, 1),
            ]
          : []),
      ];
    }),
  );
  return {
    columns,
    rows: [...rows.filter((row) => row[6] === 'Yes'), ...rows.filter((row) => row[6] === 'No')],
  };
}

/** metrics-model-gpu.csv: empty without a GPU, its columns all the same. */
export function gpuTable(outcome: Outcome, plan: TunePlan, gpu: string | null): Table {
  const columns = [
    ...['Model', 'GPU UUID', 'Batch', plan.loads[0]?.kind === 'rate' ? 'Request Rate' : 'Concurrency'],
    ...['Model Config Path', 'Instance Group', 'Satisfies Constraints', 'GPU Memory Usage (MB)'],
    ...['GPU Utilization (%)', 'GPU Power Usage (W)'],
  ];
  if (gpu === null) return { columns, rows: [] };
  const rows = ordered(outcome).flatMap(({ measurement, variant }) =>
    plan.models.map(({ name, request }): Cell[] => [
      ...[
        name,
        gpu,
        rowsOf(request.inputs),
        measurement.load.value,
        variant.name,
        instanceGroup(variant, name),
      ],
      variant.passes ? 'Yes' : 'No',
      rounded((measurement.models[name]!.figures.gpu_memory_bytes ?? 0) / 1e6, 1),
      null,
      null,
    ]),
  );
  return { columns, rows };
}

/** metrics-server-only.csv: what an idle server takes of a GPU, which is not measured here. */
export const SERVER_ONLY: Table = {
  columns: [...['Model', 'GPU UUID', 'GPU Memory Usage (MB)', 'GPU Utilization (%)', 'GPU Power Usage (W)']],
  rows: [],
};

/** Every metric of every measurement, in our own names, repeats among them. */
export function allTable(outcome: Outcome, plan: TunePlan): Table {
  const names = plan.models.map(({ name }) => name);
  const rows = outcome.ranked.flatMap((variant) =>
    [...variant.measurements, ...variant.repeats].flatMap((measurement) =>
      names.map((name): Cell[] => [
        ...[variant.name, settingsWords(variant.settings, names), name, measurement.load.kind],
        ...[measurement.load.value, measurement.round, measurement.outcome, measurement.reason],
        ...METRIC_NAMES.map((metric) => measurement.models[name]?.figures[metric] ?? null),
        measurement.models[name]?.is_stable === false ? 'unstable' : 'stable',
        measurement.warnings.join('; '),
      ]),
    ),
  );
  return {
    columns: [
      ...['configuration', 'settings', 'model', 'load', 'load_value', 'round', 'outcome', 'reason'],
      ...METRIC_NAMES,
      ...['windows', 'warnings'],
    ],
    rows,
  };
}

/** The summary's table: each configuration at its best measurement. */
export function summaryTable(variants: readonly VariantOutcome[], plan: TunePlan): Table {
  const names = plan.models.map(({ name }) => name);
  const isMany = names.length > 1;
  const hasTokens = variants.some(({ best }) =>
    Object.values(best?.models ?? {}).some(({ figures }) => figures.tokens_out_per_s !== null),
  );
  const hasGpu = variants.some(({ best }) =>
    Object.values(best?.models ?? {}).some(({ figures }) => figures.gpu_memory_bytes !== null),
  );
  const columns = [
    ...['Model Config Name', 'Max Batch Size', 'Dynamic Batching', 'Total Instance Count'],
    isMany ? 'Average p99 Latency (ms)' : 'p99 Latency (ms)',
    isMany ? 'Total Throughput (infer/sec)' : 'Throughput (infer/sec)',
    ...(hasTokens ? ['p99 Time To First Token (ms)', 'Output Token Throughput (tokens/sec)'] : []),
    'Max CPU Memory Usage (MB)',
    ...(hasGpu ? ['Max GPU Memory Usage (MB)'] : []),
    'Settings',
  ];
  const rows = variants.map(({ best, failures, name, settings }): Cell[] => {
    const of = (metric: keyof Figures): (number | null)[] =>
      names.map((model) => (best?.models[model]?.figures[metric] as number | null | undefined) ?? null);
    const shown = (values: (number | null)[], digits: number, isSum: boolean): Cell => {
      const known = values.filter((value): value is number => value !== null);
      if (known.length === 0) return null;
      const sum = known.reduce((total, value) => total + value, 0);
      const whole = (isSum ? sum : sum / known.length).toFixed(digits);
      return isMany ? `${whole} (${known.map((value) => value.toFixed(digits)).join(', ')})` : Number(whole);
    };
    return [
      ...[name, perModel(names, (model) => batchOf({ settings }, model))],
      perModel(names, (model) => (delayOf(settings, model) === null ? 'Default' : 'Enabled')),
      perModel(names, (model) => workersOf(settings, model)),
      best === null ? `infeasible: ${failures[0] ?? ''}` : shown(of('latency_p99_ms'), 3, false),
      shown(of('throughput_per_s'), 1, true),
      ...(hasTokens
        ? [shown(of('first_token_p99_ms'), 3, false), shown(of('tokens_out_per_s'), 1, true)]
        : []),
      shown(
        of('memory_bytes')
          .slice(0, 1)
          .map((value) => (value === null ? null : value / 1e6)),
        0,
        true,
      ),
      ...(hasGpu
        ? [
            shown(
              of('gpu_memory_bytes')
                .slice(0, 1)
                .map((value) => (value === null ? null : value / 1e6)),
              0,
              true,
            ),
          ]
        : []),
      settingsWords(settings, names),
    ];
  });
  return { columns, rows };
}

export function csvOf({ columns, rows }: Table): string {
  const cell = (value: Cell): string => {
    const text = value === null ? '' : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows].map((row) => `${row.map(cell).join(',')}\n`).join('');
}

export function markdownOf({ columns, rows }: Table): string {
  const cell = (value: Cell): string =>
    value === null ? '–' : String(value).replaceAll('|', '\\|').replaceAll('\n', ' ');
  const line = (cells: readonly Cell[]): string => `| ${cells.map(cell).join(' | ')} |\n`;
  return `${line(columns)}|${columns.map(() => '---|').join('')}\n${rows.map(line).join('')}`;
}

function ordered({ ranked }: Outcome): { variant: VariantOutcome; measurement: Measurement }[] {
  return ranked.flatMap((variant) =>
    variant.measurements
      .filter(({ outcome }) => outcome === 'measured')
      .map((measurement) => ({ variant, measurement })),
  );
}

function isPassing(measurement: Measurement, plan: TunePlan): boolean {
  return plan.models.every(({ constraints, name }) =>
    constraints.every(({ max, metric, min }) => {
      const value = measurement.models[name]!.figures[metric] as number | null;
      return value !== null && (max === null || value <= max) && (min === null || value >= min);
    }),
  );
}

const anyFigure = ({ ranked }: Outcome, metric: keyof Figures): boolean =>
  ranked.some(({ best }) =>
    Object.values(best?.models ?? {}).some(({ figures }) => figures[metric] !== null),
  );

const rounded = (value: number | null, digits: number): Cell =>
  value === null ? null : Number(value.toFixed(digits));
const rowsOf = (inputs: readonly { shape?: number[] }[]): number => inputs[0]?.shape?.[0] ?? 1;

function perModel(models: readonly string[], of: (model: string) => Cell): Cell {
  return models.length === 1 ? of(models[0]!) : models.map((model) => of(model) ?? '–').join(', ');
}

export function batchOf({ settings }: Pick<VariantOutcome, 'settings'>, model: string): Cell {
  const own = modelSettings(settings, model);
  return (own.batch_size ?? own['option.max_rolling_batch_size'] ?? 'Default') as Cell;
}
function delayOf(settings: VariantOutcome['settings'], model: string): Cell {
  const own = modelSettings(settings, model);
  const value = own.max_batch_delay ?? own.batch_size ?? own['option.max_rolling_batch_size'];
  return value === undefined ? null : String(value);
}
export const workersOf = (settings: VariantOutcome['settings'], model: string): Cell =>
  (modelSettings(settings, model).minWorkers ?? 'Default') as Cell;
const instanceGroup = ({ settings }: VariantOutcome, model: string): Cell => {
  const workers = workersOf(settings, model);
  return workers === 'Default' ? 'Default' : `${workers}:CPU`;
};
