/**
 * The report's own script, in the browser: charts and the table, from the data that the page carries.
 *
 * In      #data, JSON (html-report.ts); `echarts`, inlined before
 * Out     charts in #frontier, #memory, #breakdown; the table in #sweep, sorted by a click, filtered by words
 * Limits  asks nothing of any network: the page's policy forbids it
 */
/* global document, window, echarts */
const data = JSON.parse(document.getElementById('data').textContent);
/** Okabe and Ito: told apart by all eyes. */
const COLOURS = ['#0072B2', '#E69F00', '#009E73', '#D55E00', '#CC79A7', '#56B4E9', '#F0E442', '#999999'];
const root = document.documentElement;
const byId = (id) => document.getElementById(id);
const isDark = () =>
  root.dataset.theme
    ? root.dataset.theme === 'dark'
    : window.matchMedia('(prefers-color-scheme: dark)').matches;
const ink = () => getComputedStyle(root).getPropertyValue('--ink').trim();
const faint = () => getComputedStyle(root).getPropertyValue('--line').trim();
const escaped = (text) => String(text).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);

let model = data.models[0];
const figure = (point, metric) => point.models[model]?.[metric] ?? null;
const scaled = (metric, value) => (value === null ? null : value / data.metrics[metric].divisor);
const shown = (metric, value) => {
  if (value === null) return '–';
  const { digits, sign } = data.metrics[metric];
  return `${scaled(metric, value).toFixed(digits)} ${sign}`.trim();
};
const label = (metric) => {
  const { sign, title } = data.metrics[metric];
  return sign ? `${title} (${sign})` : title;
};

const axis = (metric, extra = {}) => ({
  type: 'value',
  name: label(metric),
  nameLocation: 'middle',
  nameGap: 34,
  scale: true,
  nameTextStyle: { color: ink() },
  axisLabel: { color: ink() },
  splitLine: { lineStyle: { color: faint() } },
  ...extra,
});

/** Lines where a limit lies. */
function limitLines(x, y) {
  const of = (metric, key) =>
    data.constraints
      .filter((one) => one.model === model && one.metric === metric)
      .flatMap(({ max, min }) => [max, min])
      .filter((limit) => limit !== null)
      .map((limit) => ({
        [key]: scaled(metric, limit),
        label: { formatter: `target ${shown(metric, limit)}`, color: ink(), position: 'insideEndTop' },
      }));
  return [...of(x, 'xAxis'), ...of(y, 'yAxis')];
}

/** A configuration is a line over its loads; what is in front is the frontier. */
function frontierOption(x, y) {
  const series = data.variants
    .map((variant, index) => ({ variant, index }))
    .filter(({ variant }) => variant.points.some((point) => figure(point, x) !== null))
    .map(({ index, variant }) => {
      const isShown = data.shown.includes(variant.name);
      const points = [...variant.points].sort((a, b) => a.load - b.load);
      return {
        name: variant.name,
        type: 'line',
        showSymbol: true,
        symbolSize: isShown ? 10 : 6,
        lineStyle: { width: isShown ? 2 : 1, opacity: isShown ? 1 : 0.35 },
        itemStyle: {
          color: isShown ? COLOURS[data.shown.indexOf(variant.name) % COLOURS.length] : '#999999',
          opacity: isShown ? 1 : 0.6,
        },
        z: isShown ? 3 : 2,
        data: points.map((point) => ({
          value: [scaled(x, figure(point, x)), scaled(y, figure(point, y))],
          point,
          variant,
        })),
        ...(index === 0
          ? {
              markLine: {
                silent: true,
                symbol: 'none',
                lineStyle: { type: 'dashed', color: '#D55E00' },
                data: limitLines(x, y),
              },
            }
          : {}),
      };
    });
  return {
    backgroundColor: 'transparent',
    animation: false,
    tooltip: { trigger: 'item', formatter: ({ data: one }) => tooltip(one.variant, one.point) },
    legend: { data: data.shown, type: 'scroll', textStyle: { color: ink() }, top: 0 },
    grid: { left: 70, right: 30, top: 40, bottom: 50 },
    xAxis: axis(x),
    yAxis: axis(y, { nameGap: 48 }),
    series,
  };
}

function tooltip(variant, point) {
  const rows = data.hover
    .filter((metric) => figure(point, metric) !== null)
    .map(
      (metric) => `${escaped(data.metrics[metric].title)}: <b>${shown(metric, figure(point, metric))}</b>`,
    );
  return [
    `<b>${escaped(variant.name)}</b>`,
    escaped(variant.settings),
    `${point.kind} ${point.load}`,
    ...rows,
  ].join('<br>');
}

/** Where a request's mean time went, by load, of the best. */
function breakdownOption() {
  const variant = data.variants.find(({ name }) => name === data.best) ?? data.variants[0];
  const points = (variant?.points ?? [])
    .filter((point) => figure(point, 'queue_mean_ms') !== null && figure(point, 'compute_mean_ms') !== null)
    .sort((a, b) => a.load - b.load);
  byId('breakdown-title').textContent = points.length
    ? `Latency breakdown of ${variant.name}`
    : 'Latency breakdown: the server told nothing of queue and model';
  const parts = [
    ['queue', (point) => figure(point, 'queue_mean_ms')],
    ['model', (point) => figure(point, 'compute_mean_ms')],
    [
      'network and client',
      (point) =>
        Math.max(
          0,
          figure(point, 'latency_mean_ms') -
            figure(point, 'queue_mean_ms') -
            figure(point, 'compute_mean_ms'),
        ),
    ],
  ];
  return {
    backgroundColor: 'transparent',
    animation: false,
    tooltip: { trigger: 'axis', valueFormatter: (value) => value.toFixed(2) },
    legend: { textStyle: { color: ink() }, top: 0 },
    grid: { left: 70, right: 70, top: 40, bottom: 50 },
    xAxis: {
      type: 'category',
      name: points[0]?.kind ?? 'load',
      nameLocation: 'middle',
      nameGap: 30,
      nameTextStyle: { color: ink() },
      axisLabel: { color: ink() },
      data: points.map(({ load }) => String(load)),
    },
    yAxis: [
      axis('latency_mean_ms', { nameGap: 48, scale: false }),
      axis('throughput_per_s', { nameGap: 48, scale: false, splitLine: { show: false } }),
    ],
    series: [
      ...parts.map(([name, value], index) => ({
        name,
        type: 'bar',
        stack: 'latency',
        barMaxWidth: 60,
        itemStyle: { color: COLOURS[index] },
        data: points.map(value),
      })),
      {
        name: 'throughput',
        type: 'line',
        yAxisIndex: 1,
        itemStyle: { color: COLOURS[3] },
        data: points.map((point) => figure(point, 'throughput_per_s')),
      },
    ],
  };
}

const charts = ['frontier', 'memory', 'breakdown'].map((id) => ({ id, chart: echarts.init(byId(id)) }));
function draw() {
  const hasMemory = data.variants.some(({ points }) =>
    points.some((one) => figure(one, 'memory_bytes') !== null),
  );
  const options = {
    frontier: frontierOption(data.latency, 'throughput_per_s'),
    memory: frontierOption(data.latency, 'memory_bytes'),
    breakdown: breakdownOption(),
  };
  byId('memory').parentElement.hidden = !hasMemory;
  for (const { chart, id } of charts) {
    chart.setOption(options[id], true);
    chart.resize();
  }
}

/** Columns: what is measured of anything here. */
const metrics = data.columns;
const rows = data.variants.flatMap((variant) =>
  variant.points.length === 0
    ? [{ variant, point: null }]
    : variant.points.map((point) => ({ variant, point })),
);
let order = { at: -1, descending: false };
function cells({ point, variant }) {
  return [
    variant.name,
    variant.settings,
    point === null ? null : point.load,
    point === null ? variant.failures.join('; ') : point.passes ? 'yes' : 'no',
    ...metrics.map((metric) => (point === null ? null : figure(point, metric))),
  ];
}
function drawTable() {
  const words = byId('filter').value.toLowerCase().split(/\s+/).filter(Boolean);
  const visible = rows
    .map((row) => ({ row, values: cells(row) }))
    .filter(({ values }) => words.every((word) => values.slice(0, 4).join(' ').toLowerCase().includes(word)));
  if (order.at >= 0) {
    visible.sort((a, b) => {
      const [x, y] = [a.values[order.at], b.values[order.at]];
      if (x === null || y === null) return Number(x === null) - Number(y === null);
      const difference =
        typeof x === 'number' && typeof y === 'number' ? x - y : String(x).localeCompare(String(y));
      return order.descending ? -difference : difference;
    });
  }
  const heads = [
    'configuration',
    'settings',
    rows.find(({ point }) => point)?.point.kind ?? 'load',
    'meets constraints',
  ];
  const head = [...heads, ...metrics.map(label)]
    .map((text, at) => {
      const sort = at === order.at ? (order.descending ? 'descending' : 'ascending') : 'none';
      return `<th scope="col" aria-sort="${sort}"><button type="button" data-at="${at}">${escaped(text)}</button></th>`;
    })
    .join('');
  const body = visible
    .map(({ row, values }) => {
      const named = values.slice(0, 4).map((value) => `<td>${value === null ? '–' : escaped(value)}</td>`);
      const numbers = metrics.map((metric, at) => {
        const value = values[at + 4];
        return `<td class="number">${value === null ? '–' : scaled(metric, value).toFixed(data.metrics[metric].digits)}</td>`;
      });
      const kind = row.variant.name === data.best ? 'best' : row.variant.isDefault ? 'default' : '';
      return `<tr class="${kind}">${named.join('')}${numbers.join('')}</tr>`;
    })
    .join('');
  byId('sweep').innerHTML = `<thead><tr>${head}</tr></thead><tbody>${body}</tbody>`;
  byId('count').textContent = `${visible.length} of ${rows.length} rows`;
}

byId('sweep').addEventListener('click', ({ target }) => {
  const at = Number(target.dataset?.at ?? -1);
  if (at < 0) return;
  order = { at, descending: order.at === at ? !order.descending : at >= 4 };
  drawTable();
});
byId('filter').addEventListener('input', drawTable);
byId('theme').addEventListener('click', () => {
  root.dataset.theme = isDark() ? 'light' : 'dark';
  draw();
});
const choice = byId('model');
choice.hidden = data.models.length < 2;
choice.innerHTML = data.models.map((name) => `<option>${escaped(name)}</option>`).join('');
choice.addEventListener('change', () => {
  model = choice.value;
  draw();
  drawTable();
});
window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
window.addEventListener('resize', draw);
draw();
drawTable();
root.dataset.ready = 'yes';
