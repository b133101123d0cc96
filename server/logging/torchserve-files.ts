/**
 * TorchServe's five log files, as its own layouts have them, so that what reads those reads these.
 *
 * In      the server's log events (pino's JSON); responses; lines of metrics
 * Out     ts_log.log, model_log.log (what handlers print), access_log.log; ts_metrics.log, model_metrics.log
 * Limits  those of log-file.ts
 * Errors  CONFIG_INVALID when a folder cannot be made or written; later trouble is told
 * Source  TorchServe's log4j2.xml: `%d{ISO8601} [%-5p] %t %c - %m%n`, and `%d{ISO8601} - %m%n` for all but ts_log
 */
import type { ResponseFacts } from './access-line.js';
import { accessRequest } from './access-line.js';
import { LogFile } from './log-file.js';
import { makeFolder } from './make-folder.js';

const LEVELS: Readonly<Record<number, string>> = {
  20: 'DEBUG',
  30: 'INFO',
  40: 'WARN',
  50: 'ERROR',
  60: 'FATAL',
};
/** As a Java class's, which is what stands there. */
const LOGGER = 'org.pytorch.serve.ModelServer';
const PRINTED = 'handler: ';

export interface TorchServeFiles {
  /** The server's logger's. */
  event(json: string): void;
  access(response: ResponseFacts): void;
  serverMetric(line: string): void;
  modelMetric(line: string): void;
  readonly all: readonly LogFile[];
}

/** @throws ServingError CONFIG_INVALID */
export function openTorchServeFiles(
  { logFolder, metricsFolder }: { logFolder: string; metricsFolder: string },
  tell: (text: string) => void,
): TorchServeFiles {
  makeFolder(logFolder, 'LOG_LOCATION');
  makeFolder(metricsFolder, 'METRICS_LOCATION');
  const server = new LogFile(logFolder, 'ts_log.log', tell);
  const model = new LogFile(logFolder, 'model_log.log', tell);
  const access = new LogFile(logFolder, 'access_log.log', tell);
  const serverMetrics = new LogFile(metricsFolder, 'ts_metrics.log', tell);
  const modelMetrics = new LogFile(metricsFolder, 'model_metrics.log', tell);
  const dated = (file: LogFile, text: string): void => file.write(`${isoTime(new Date())} - ${text}`);
  return {
    event(json) {
      const { err, level, msg, name } = JSON.parse(json) as Record<string, unknown> & {
        err?: { message?: unknown };
      };
      const text = oneLine(String(msg ?? ''));
      if (text.startsWith(PRINTED)) {
        dated(model, text.slice(PRINTED.length));
        return;
      }
      const level_ = (LEVELS[Number(level)] ?? 'INFO').padEnd(5);
      const why = err?.message === undefined ? '' : `: ${oneLine(String(err.message))}`;
      const logger = typeof name === 'string' ? name : LOGGER;
      server.write(`${isoTime(new Date())} [${level_}] main ${logger} - ${text}${why}`);
    },
    access: (response) => dated(access, `/${response.ip}:${response.port ?? 0} ${accessRequest(response)}`),
    serverMetric: (line) => dated(serverMetrics, line),
    modelMetric: (line) => dated(modelMetrics, line),
    all: [server, model, access, serverMetrics, modelMetrics],
  };
}

/** `yyyy-MM-ddTHH:mm:ss,SSS`, in local time. */
export function isoTime(at: Date): string {
  const local = new Date(at.getTime() - at.getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 23).replace('.', ',');
}

/** What somebody sent cannot begin another line. */
const oneLine = (text: string): string => text.replace(/[\r\n]+/g, ' ');
