/**
 * The server's log: JSON lines on standard output (readable text on a terminal) and, with a folder, DJLServing's four files.
 *
 * In      log events; responses; lines of metrics
 * Out     standard output; `serving.log` (the same JSON), `access.log`, `server_metric.log`, `model_metric.log`
 * Errors  CONFIG_INVALID when the folder cannot be made or written; later trouble of a file is logged once (log-file.ts)
 */
import { accessSync, constants, mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type DestinationStream, type Logger, multistream, pino, type StreamEntry } from 'pino';
import { ServingError } from '../../proto/errors.js';
import { accessLine, localTime, type ResponseFacts } from './access-line.js';
import { LogFile } from './log-file.js';

export interface ServerLog {
  readonly logger: Logger;
  /** A line of text after what was logged before it. */
  print(line: string): void;
  /** Null: there are no files. */
  readonly files: {
    access(response: ResponseFacts): void;
    /** Lines of metrics; they get the time. */
    serverMetric(line: string): void;
    modelMetric(line: string): void;
  } | null;
  /** Resolves when the files are written; nothing is logged to them afterwards. */
  close(): Promise<void>;
}

/** @throws ServingError CONFIG_INVALID */
export function createServerLog(options: { level: string; folder: string | null }): ServerLog {
  const { folder, level } = options;
  const output = openOutput();
  if (folder === null) {
    return {
      logger: pino({ level }, output.stream),
      print: output.print,
      files: null,
      close: async () => {},
    };
  }
  makeFolder(folder);
  const open = (name: string): LogFile => new LogFile(folder, name, (text) => logger.error(text));
  const [serving, access, serverMetric, modelMetric] = [
    open('serving.log'),
    open('access.log'),
    open('server_metric.log'),
    open('model_metric.log'),
  ] as const;
  // `level` of the logger decides; a stream of its own would only show info and above.
  const streams: StreamEntry[] = [
    { level: 'trace', stream: output.stream },
    { level: 'trace', stream: { write: (text: string) => serving.write(text.trimEnd()) } },
  ];
  const logger: Logger = pino({ level }, multistream(streams));
  return {
    logger,
    print: output.print,
    files: {
      access: (response) => access.write(accessLine(response, new Date())),
      serverMetric: (line) => serverMetric.write(`${localTime(new Date())} ${line}`),
      modelMetric: (line) => modelMetric.write(`${localTime(new Date())} ${line}`),
    },
    close: async () => {
      await Promise.all([serving, access, serverMetric, modelMetric].map((file) => file.close()));
    },
  };
}

function openOutput(): { stream: DestinationStream; print: (line: string) => void } {
  if (process.stdout.isTTY === true && hasPrettyPrinter()) {
    const stream = pino.transport({ target: 'pino-pretty' }) as DestinationStream;
    return { stream, print: (line) => process.stdout.write(`${line}\n`) };
  }
  // Not process.stdout: the log is written a little later than it is made, and lines must keep their order.
  const stream = pino.destination({ dest: 1, sync: false });
  return { stream, print: (line) => stream.write(`${line}\n`) };
}

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new ServingError('CONFIG_INVALID', `log_folder: cannot write to ${folder}: ${reason}`, {
      cause: error,
    });
  }
}

/** A development package: an installation without it logs JSON. */
function hasPrettyPrinter(): boolean {
  try {
    createRequire(import.meta.url).resolve('pino-pretty');
    return true;
  } catch {
    return false;
  }
}
