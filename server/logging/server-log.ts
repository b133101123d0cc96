/**
 * The server's log: JSON lines on standard output (readable text on a terminal) and, with a folder, DJLServing's four files.
 *
 * In      log events; responses; lines of metrics
 *         (of a server that TorchServe's command started: its five files instead, torchserve-files.ts)
 * Out     standard output; `serving.log` (the same JSON), `access.log`, `server_metric.log`, `model_metric.log`
 * Errors  CONFIG_INVALID when the folder cannot be made or written; later trouble is logged, and lines are dropped and counted (log-file.ts,
 *         lossy-output.ts)
 */
import { type DestinationStream, type Logger, multistream, pino, type StreamEntry } from 'pino';
import { accessLine, localTime, type ResponseFacts } from './access-line.js';
import { LogFile } from './log-file.js';
import { LossyOutput } from './lossy-output.js';
import { makeFolder } from './make-folder.js';
import { terminalLine } from './terminal-line.js';
import { openTorchServeFiles } from './torchserve-files.js';

const MAX_LINE = 64 * 1024;

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
  /** Lines that could not be written, by `stdout` or the file's name. */
  readonly droppedLines: ReadonlyMap<string, number>;
  /** Resolves when the files are written; nothing is logged to them afterwards. */
  close(): Promise<void>;
}

/** @throws ServingError CONFIG_INVALID */
export function createServerLog(options: {
  level: string;
  folder: string | null;
  torchServe?: { logFolder: string; metricsFolder: string } | null;
}): ServerLog {
  const { folder, level, torchServe = null } = options;
  const tell = (text: string): void => logger.error(text);
  const output = openOutput(tell);
  if (folder !== null) makeFolder(folder, 'log_folder');
  const theirs = torchServe && openTorchServeFiles(torchServe, tell);
  const files = folder === null ? null : openFiles(folder, tell);
  // `level` of the logger decides; a stream of its own would only show info and above.
  const streams: StreamEntry[] = [{ level: 'trace', stream: output.stream }];
  if (files) {
    streams.push({ level: 'trace', stream: { write: (text) => files.serving.write(text.trimEnd()) } });
  }
  if (theirs) streams.push({ level: 'trace', stream: { write: theirs.event } });
  const logger: Logger = pino({ level, hooks: { streamWrite: boundedLine } }, multistream(streams));
  const all: (LossyOutput | LogFile)[] = [...Object.values(files ?? {}), ...(theirs?.all ?? [])];
  if (output.lossy) all.push(output.lossy);
  return {
    logger,
    print: output.print,
    files:
      theirs ??
      (files && {
        access: (response) => files.access.write(accessLine(response, new Date())),
        serverMetric: (line) => files.serverMetric.write(`${localTime(new Date())} ${line}`),
        modelMetric: (line) => files.modelMetric.write(`${localTime(new Date())} ${line}`),
      }),
    get droppedLines() {
      return new Map(all.map(({ dropped, name }) => [name, dropped]));
    },
    close: async () => {
      await Promise.all(all.map((one) => one.close()));
    },
  };
}

/** A line quotes what strangers have sent: one that is too long is told by its beginning. */
function boundedLine(line: string): string {
  if (line.length <= MAX_LINE) return line;
  const [, level = '30'] = /^\{"level":(\d+)/.exec(line) ?? [];
  const cut = {
    level: Number(level),
    time: Date.now(),
    msg: 'a line was cut',
    length: line.length,
    start: line.slice(0, 4096),
  };
  return `${JSON.stringify(cut)}\n`;
}

function openFiles(folder: string, tell: (text: string) => void) {
  const open = (name: string): LogFile => new LogFile(folder, name, tell);
  return {
    serving: open('serving.log'),
    access: open('access.log'),
    serverMetric: open('server_metric.log'),
    modelMetric: open('model_metric.log'),
  };
}

function openOutput(tell: (text: string) => void): {
  stream: DestinationStream;
  print: (line: string) => void;
  lossy: LossyOutput | null;
} {
  if (process.stdout.isTTY === true) {
    const isColoured = !process.env.NO_COLOR;
    const write = (text: string): void => void process.stdout.write(terminalLine(text, isColoured));
    // A terminal that has gone: its lines go nowhere.
    process.stdout.on('error', () => {});
    return { stream: { write }, print: (line) => process.stdout.write(`${line}\n`), lossy: null };
  }
  // Not process.stdout: the log is written a little later than it is made, and lines must keep their order.
  const lossy = new LossyOutput(1, tell);
  return { stream: lossy, print: (line) => lossy.write(`${line}\n`), lossy };
}
