/**
 * What the dialects say of their routes, as an OpenAPI 3.1 document.
 *
 * In      dialects with their documented routes; TypeBox schemas are JSON schemas already
 * Out     plain data
 */
import type { TObject, TSchema } from '@sinclair/typebox';
import { ERROR_TABLE } from '../../../../proto/errors.js';
import type { Dialect, DocumentedRoute } from '../../dialect.js';

/** @param modelFor a name for the examples */
export function openApiOf(dialects: readonly Dialect[], modelFor: (route: DocumentedRoute) => string) {
  const paths: Record<string, Record<string, object>> = {};
  for (const { name, reference = [] } of dialects) {
    for (const route of reference) {
      const at = route.path.replace(/:(\w+)/g, '{$1}');
      paths[at] ??= {};
      paths[at][route.method.toLowerCase()] = operation(name, route, modelFor(route));
    }
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Shardserve', version: '1' },
    paths,
    components: { securitySchemes: { key: { type: 'http', scheme: 'bearer' } } },
  };
}

function operation(
  tag: string,
  { body, example, path, query, requiredQuery, summary }: DocumentedRoute,
  model: string,
): object {
  const inPath = [...path.matchAll(/:(\w+)/g)].map(([, name]) => ({
    ...{ name, in: 'path', required: true, schema: { type: 'string' } },
  }));
  const inQuery = Object.entries(query?.properties ?? {}).map(([name, schema]) => ({
    ...{ name, in: 'query', schema: plain(schema) },
    ...(requiredQuery?.includes(name) && { required: true }),
  }));
  const errors = { description: `one of ${Object.keys(ERROR_TABLE).length} errors: see the reference at /` };
  return {
    tags: [tag],
    summary,
    parameters: [...inPath, ...inQuery],
    ...(body && {
      requestBody: {
        required: true,
        content: {
          'application/json': { schema: plain(body), ...(example && { example: example(model) }) },
        },
      },
    }),
    responses: { 200: { description: summary }, default: errors },
  };
}

/** `expects` is our own word for what a schema's keywords cannot say. */
function plain(schema: TSchema | TObject): unknown {
  return JSON.parse(JSON.stringify(schema, (key, value: unknown) => (key === 'expects' ? undefined : value)));
}
