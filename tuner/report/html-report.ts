/**
 * The report as one page that needs nothing else: no network, dark and light, charts and a table that sorts and filters.
 *
 * In      what the Markdown report has
 * Out     HTML: data as JSON, our script, our styles and ECharts inlined; a policy that forbids every request
 * Limits  about 0.8 MB, of which ECharts' common build is 0.7
 * Why     ECharts (Apache-2.0, kept): lines, stacked bars on two axes, marked limits and hover from one file without a build; uPlot has no
 *         stacked bars, Vega and Observable Plot need several files
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { Goals } from '../decide/goals.js';
import type { VariantOutcome } from '../run/outcome.js';
import { METRIC_NAMES, METRICS, type Metric } from '../units/metrics.js';
import { type ReportInput, shownVariants } from './markdown-report.js';
import { settingsWords } from './settings-words.js';
import { constraintWords } from './summary.js';

const ECHARTS = createRequire(import.meta.url).resolve('echarts/dist/echarts.common.min.js');
const pageFile = (name: string): string =>
  fileURLToPath(new URL(`../../../tuner/report/page/${name}`, import.meta.url));
const POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:";
const HOVER: readonly Metric[] = [
  ...([
    'throughput_per_s',
    'latency_p50_ms',
    'latency_p99_ms',
    'first_token_p99_ms',
    'token_gap_p99_ms',
  ] as const),
  ...(['tokens_out_per_s', 'memory_bytes', 'server_cores', 'error_share'] as const),
];

export function htmlReport(input: ReportInput): string {
  const { at, header, plan, summary } = input;
  const models = plan.models.map(({ name }) => name).join(', ');
  const facts: [string, string][] = [
    ['Model', models],
    ['Constraint targets', constraintWords(plan)],
    ['Date', at],
    ...Object.entries(header),
  ];
  const lines = summary.lines.map((line) => `<li>${escaped(line)}</li>`).join('');
  const data = JSON.stringify(pageData(input)).replaceAll('<', '\\u003c');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<title>Tuning of ${escaped(models)}</title>
<link rel="icon" href="data:,">
<style>
${readFileSync(pageFile('report-page.css'), 'utf8')}</style>
</head>
<body>
<main>
<header>
<div>
<h1>Result Summary: ${escaped(models)}</h1>
<p class="headline">${escaped(summary.headline)}</p>
</div>
<button type="button" id="theme">dark / light</button>
</header>
<ul>${lines}</ul>
<select id="model" aria-label="model"></select>
<section class="charts">
<div class="card"><h2>Throughput and latency</h2><div class="chart" id="frontier"></div></div>
<div class="card"><h2>Memory and latency</h2><div class="chart" id="memory"></div></div>
<div class="card"><h2 id="breakdown-title">Latency breakdown</h2><div class="chart" id="breakdown"></div></div>
</section>
${repeatsCard(input)}
<section class="card">
<h2>Every configuration that was measured</h2>
<p><input id="filter" type="search" placeholder="filter: words" aria-label="filter"> <span class="soft" id="count"></span></p>
<div class="scroll"><table id="sweep"></table></div>
</section>
<section><h2>Conditions</h2><dl>${facts.map(([name, value]) => `<dt>${escaped(name)}</dt><dd>${escaped(value)}</dd>`).join('')}</dl></section>
</main>
<script type="application/json" id="data">${data}</script>
<script>${inlined(readFileSync(ECHARTS, 'utf8'))}</script>
<script>
${inlined(readFileSync(pageFile('report-page.mjs'), 'utf8'))}</script>
</body>
</html>
`;
}

function repeatsCard({ outcome: { verdict }, plan }: ReportInput): string {
  if (verdict === null) return '';
  const rows = verdict.compared.map(({ gain, name, passed, percent, rounds }) => {
    const range = gain === null ? '–' : `${(100 * gain.low).toFixed(1)} … ${(100 * gain.high).toFixed(1)} %`;
    return `<tr class="${name === verdict.winner ? 'best' : ''}"><td>${escaped(name)}</td><td class="number">${percent === null ? '–' : `${percent.toFixed(1)} %`}</td><td class="number">${range}</td><td class="number">${passed} of ${rounds}</td></tr>`;
  });
  return `<section class="card"><h2>Repeated beside the default, in turns</h2><p>${escaped(verdict.sentence)}</p><div class="scroll"><table><thead><tr><th>configuration</th><th>gain</th><th>${100 * plan.verdict.level} % interval of the score</th><th>met the constraints</th></tr></thead><tbody>${rows.join('')}</tbody></table></div></section><br>`;
}

/** What report-page.mjs reads. */
function pageData({ outcome, plan, summary }: ReportInput) {
  const names = plan.models.map(({ name }) => name);
  const goals = new Goals(plan.models.map((model) => ({ ...model, model: model.name })));
  const measured = outcome.ranked.flatMap(({ measurements }) => measurements);
  const columns = METRIC_NAMES.filter((metric) =>
    measured.some(({ models }) => Object.values(models).some(({ figures }) => figures[metric] !== null)),
  );
  const latency = plan.models[0]?.constraints.find(({ metric }) =>
    /first_token|token_gap/.test(metric),
  )?.metric;
  return {
    models: names,
    metrics: Object.fromEntries(
      METRIC_NAMES.map((metric) => [metric, { title: METRICS[metric].title, ...METRICS[metric].shown }]),
    ),
    hover: HOVER,
    columns,
    latency: latency ?? 'latency_p99_ms',
    constraints: plan.models.flatMap(({ constraints, name }) =>
      constraints.map((one) => ({ model: name, ...one })),
    ),
    best: summary.winner?.name ?? null,
    shown: shownVariants(outcome).map(({ name }) => name),
    variants: outcome.ranked.map((variant) => ({
      name: variant.name,
      settings: settingsWords(variant.settings, names),
      isDefault: variant.isDefault,
      failures: variant.failures,
      points: pointsOf(variant, goals),
    })),
  };
}

function pointsOf({ measurements }: VariantOutcome, goals: Goals) {
  return measurements
    .filter(({ outcome }) => outcome === 'measured')
    .map((measurement) => ({
      kind: measurement.load.kind,
      load: measurement.load.value,
      passes: goals.passes(measurement),
      models: Object.fromEntries(
        Object.entries(measurement.models).map(([name, { figures }]) => [name, figures]),
      ),
    }));
}

/** A script ends at the first thing that looks like its end. */
const inlined = (script: string): string => script.replaceAll('</script', '<\\/script');

const escaped = (text: string): string =>
  text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
