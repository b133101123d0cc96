/** The error table of proto/ERRORS.md, made from proto/errors.ts. `npm run docs` writes it between the two markers. */
import { ERROR_TABLE, GrpcStatus } from '../../proto/errors.js';

export const ERRORS_FILE = 'proto/ERRORS.md';
export const ERRORS_START = '<!-- errors -->';
export const ERRORS_END = '<!-- /errors -->';

const grpcNames = new Map<number, string>(Object.entries(GrpcStatus).map(([name, status]) => [status, name]));

/** Without the markers, ending in a line break. */
export function renderErrorTable(): string {
  const rows = Object.entries(ERROR_TABLE).map(([code, { http, grpc, retryable, when }]) => {
    const again = retryable ? 'yes' : 'no';
    return `| \`${code}\` | ${http} | ${grpcNames.get(grpc)} | ${again} | ${when} |`;
  });
  return `${['| Code | HTTP | gRPC | Retry | When |', '|---|---|---|---|---|', ...rows].join('\n')}\n`;
}
