/** The table of server/http/README.md: how long a body may be, dialect by dialect, made from what the code holds. */
import { MAX_JSON_DEPTH, MAX_JSON_PARTS } from '../../proto/json-depth.js';
import { MAX_STREAM_BYTES, MAX_STREAM_REQUESTS } from '../../server/grpc/inference-service.js';
import { FREE_BYTES } from '../../server/grpc/received-bytes.js';
import { MAX_FIELD_NAME_BYTES, MAX_FORM_FIELDS } from '../../server/http/bodies/form-fields.js';
import { bodyBytesOf, type Dialect } from '../../server/http/dialect.js';
import { ALL_DIALECTS } from '../../server/http/dialects/all-dialects.js';
import { torchServeDialects } from '../../server/http/dialects/torchserve/torchserve-dialects.js';
import type { TorchServeModels } from '../../server/http/dialects/torchserve/torchserve-models.js';

export const BODIES_FILE = 'server/http/README.md';
export const BODIES_START = '<!-- bodies -->';
export const BODIES_END = '<!-- /bodies -->';

/** By its name, for readers. */
const TITLES: Readonly<Record<string, string>> = {
  health: 'probes: `/health…`',
  ping: 'probe: `/ping`',
  djl: 'DJLServing, LMI, SageMaker: `/predictions`, `/invocations`, `/models/NAME/invoke`',
  workflows: 'workflows: `/wfpredict`',
  explanations: '`/explanations`',
  openai: 'OpenAI, vLLM: `/v1/…`, `/tokenize`, `/score` …',
  anthropic: 'Anthropic: `/v1/messages`',
  oip: 'Open Inference Protocol: `/v2/…`',
  'oip-repository': '`/v2/repository`',
  tgi: 'Text Generation Inference: `/generate`, `/generate_stream`',
  management: "DJLServing's management: `/models`, `/workflows`, `/server`",
  metrics: '`/metrics`',
  reference: '`/`, `/openapi.json`',
  torchserve: "TorchServe's inference: `/predictions`, `/v1/models/NAME:predict` …",
  'torchserve-management': "TorchServe's management: `/models`, `/token`",
  'torchserve-workflows': "TorchServe's workflows: `/workflows`",
};

/** All that any command speaks, each once. */
export function spokenDialects(): Dialect[] {
  const models = { parts: { config: { enableMetricsApi: true } } } as TorchServeModels;
  const all = [...ALL_DIALECTS, ...torchServeDialects(models)];
  return [...new Map(all.map((dialect) => [dialect.name, dialect])).values()];
}

const bytes = (count: number): string => `${count.toLocaleString('en-US')} bytes`;

/** Without the markers, ending in a line break. */
export function renderBodyTable(): string {
  const rows = spokenDialects().map((dialect) => {
    const title = TITLES[dialect.name];
    if (title === undefined) throw new Error(`${dialect.name} has no title in render-body-table.ts`);
    const most = bodyBytesOf(dialect);
    return [title, most === null ? '`max_request_size`' : bytes(most)];
  });
  const all = [
    ...rows,
    ['gRPC, a message', `\`max_request_size\`; without a key ${bytes(FREE_BYTES)}, uncompressed`],
    [
      'gRPC, `ModelStreamInfer`',
      `${MAX_STREAM_REQUESTS} requests, ${bytes(MAX_STREAM_BYTES)} of them at a time`,
    ],
    ['all bodies of a listener at a time', '`max_request_size`'],
    [
      'JSON, within',
      `${MAX_JSON_DEPTH} deep, ${MAX_JSON_PARTS.toLocaleString('en-US')} objects, arrays and members`,
    ],
    ['a form', `${MAX_FORM_FIELDS} fields, names of ${bytes(MAX_FIELD_NAME_BYTES)}`],
  ];
  return `${['| What | At most |', '|---|---|', ...all.map(([what, most]) => `| ${what} | ${most} |`)].join('\n')}\n`;
}
