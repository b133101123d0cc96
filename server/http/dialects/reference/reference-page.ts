/**
 * What the dialects say of their routes, as one page of HTML: routes, fields, a curl line each, and the table of errors.
 *
 * In      dialects with their documented routes
 * Out     a page without scripts, styles of its own, nothing from elsewhere
 */
import type { TSchema } from '@sinclair/typebox';
import { ERROR_TABLE } from '../../../../proto/errors.js';
import { expectation } from '../../../requests/validation.js';
import type { Dialect, DocumentedRoute } from '../../dialect.js';

const STYLE =
  'body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}pre{background:#f3f3f3;padding:.7em;overflow:auto}' +
  'td,th{text-align:left;padding:.1em .8em .1em 0;vertical-align:top}h3 code{background:#eef;padding:.1em .4em}';

/** @param origin of this server, for the curl lines. @param modelFor a name for the examples */
export function referencePage(
  dialects: readonly Dialect[],
  origin: string,
  modelFor: (route: DocumentedRoute) => string,
): string {
  const sections = dialects.flatMap(({ name, reference = [] }) =>
    reference.length === 0
      ? []
      : [
          `<h2>${escaped(name)}</h2>`,
          ...reference.map((route) => routeSection(route, origin, modelFor(route))),
        ],
  );
  const errors = Object.entries(ERROR_TABLE).map(([code, { http, retryable, when }]) =>
    row([code, String(http), retryable ? 'yes' : 'no', when]),
  );
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>Shardserve</title><style>${STYLE}</style>
<h1>Shardserve</h1>
<p>Every route of this server. For programs: <a href="/openapi.json">/openapi.json</a>. With keys, send <code>Authorization: Bearer KEY</code>.</p>
${sections.join('\n')}
<h2>Errors</h2>
<table>${row(['Code', 'HTTP', 'Retry', 'When'], 'th')}${errors.join('')}</table></html>
`;
}

function routeSection(route: DocumentedRoute, origin: string, model: string): string {
  const { body, method, path, query, requiredQuery, summary } = route;
  const fields = [
    ...fieldsOf(query, 'query', requiredQuery),
    ...fieldsOf(body, 'body'),
    ...fieldsOf(body?.properties?.parameters as TSchema | undefined, 'parameters'),
  ];
  const table =
    fields.length === 0 ? '' : `<table>${row(['Field', 'In', 'Must be'], 'th')}${fields.join('')}</table>`;
  return `<h3><code>${method} ${escaped(path)}</code></h3><p>${escaped(summary)}</p>
<pre>${escaped(curl(route, origin, model))}</pre>${table}`;
}

function fieldsOf(
  schema: TSchema | undefined,
  place: string,
  alsoRequired: readonly string[] = [],
): string[] {
  const required = new Set<unknown>([
    ...((schema?.required as unknown[] | undefined) ?? []),
    ...alsoRequired,
  ]);
  return Object.entries((schema?.properties ?? {}) as Record<string, TSchema>).map(([name, field]) =>
    row([required.has(name) ? `${name} (required)` : name, place, expectation(field)]),
  );
}

/** What nobody can know here stands in capitals: VERSION, URL. */
function curl(
  { example, exampleQuery, method, path }: DocumentedRoute,
  origin: string,
  model: string,
): string {
  const at = path.replace(/:(\w+)/g, (_, name: string) => (name === 'model' ? model : name.toUpperCase()));
  const query = Object.entries(exampleQuery?.(model) ?? {}).map(([name, value]) => `${name}=${value}`);
  const url = query.length === 0 ? origin + at : quoted(`${origin}${at}?${query.join('&')}`);
  const body = example?.(model);
  const isStream = path.endsWith('_stream') || (body as { stream?: unknown } | undefined)?.stream === true;
  const data =
    body === undefined ? '' : ` -H 'content-type: application/json' -d ${quoted(JSON.stringify(body))}`;
  return `curl ${isStream ? '-N ' : ''}${method === 'GET' ? '' : `-X ${method} `}${url}${data}`;
}

/** For a shell. */
const quoted = (text: string): string => `'${text.replaceAll("'", String.raw`'\''`)}'`;

const row = (cells: readonly string[], tag = 'td'): string =>
  `<tr>${cells.map((cell) => `<${tag}>${escaped(cell)}</${tag}>`).join('')}</tr>`;

function escaped(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
