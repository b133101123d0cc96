/**
 * What the routes of all listeners share: what they serve with, and the little state that outlives a request.
 *
 * In      the server's parts, made by main
 * Out     one context for every listener
 */
import type { Logger } from 'pino';
import type { ServingError } from '../../proto/errors.js';
import { AccessControl } from '../access/access-control.js';
import type { TlsFiles } from '../access/tls-files.js';
import type { ServerConfig } from '../config/config.js';
import type { ManagementService } from '../requests/management.js';
import type { ModelCounts } from '../requests/model-facts.js';
import { type TimeParts, timedService } from '../requests/request-times.js';
import type { InferenceService } from '../requests/service.js';
import type { WorkflowService } from '../requests/workflows.js';
import { AsyncResults } from './answers/async-results.js';
import { AsyncStore, type OwnFolder } from './answers/async-store.js';
import { Sessions } from './answers/sessions.js';
import { ErrorRates } from './error-rates.js';

const BYTES_PER_MIB = 1_048_576;

export interface ResponseFacts {
  ip: string;
  /** The client's. */
  port?: number;
  method: string;
  /** Path and query, as the client sent them. */
  uri: string;
  httpVersion: string;
  status: number;
  /** From the request's head to the response's end. */
  durationMs: number;
  /** Where the time went, when a model was asked; absent: none was. */
  times?: TimeParts;
}

/** What /metrics needs of server/metrics. */
export interface MetricsText {
  /** DJLServing's metrics are exported. */
  readonly prometheus: boolean;
  readonly contentType: string;
  text(names: ReadonlySet<string>): Promise<string>;
  /** Numbers of each model since it was loaded; absent: none are counted. */
  statistics?(): ModelCounts[];
}

export interface HttpDeps {
  config: ServerConfig;
  service: InferenceService;
  management: ManagementService;
  /** Absent: there are none. */
  workflows?: WorkflowService;
  logger: Logger;
  /** The model that a request without a name means; null when there is not exactly one startup model. */
  singleStartupModel(): string | null;
  /** Who may do what; absent: made from the configuration. */
  access?: AccessControl;
  /** For https:// addresses; absent: made from the configuration where there is one. */
  tls?: TlsFiles | null;
  /** Keeps other servers from a folder; absent: nobody does. */
  ownFolder?: OwnFolder;
  /** Absent: no /metrics. */
  metrics?: MetricsText;
  /** Called when a response has ended, or was cut off. */
  onResponse?(response: ResponseFacts): void;
}

export interface HttpContext extends HttpDeps {
  readonly errorRates: ErrorRates;
  readonly asyncResults: AsyncResults;
  readonly sessions: Sessions;
  readonly access: AccessControl;
  /** For responses and for what is done to the server: no request moves its level. */
  readonly accessLog: Logger;
  draining: boolean;
  /** For every error of an inference path, also one that ends a stream: /ping's limits count them. */
  countError(error: ServingError, status: number): void;
}

/**
 * A log whose level no request moves.
 *
 * A child that is given its parent's level goes on sharing it: only one that had another has its own.
 */
export function accessLogOf(logger: Logger): Logger {
  const child = logger.child({}, { level: logger.level === 'silent' ? 'fatal' : 'silent' });
  child.level = logger.level;
  return child;
}

/** @throws ServingError CONFIG_INVALID: the file of keys, the folder of asynchronous answers */
export function createHttpContext(deps: HttpDeps): HttpContext {
  const { asyncResultFolder, asyncResultLimit, asyncResultMemoryMb, asyncResultTtlSeconds } = deps.config;
  const store =
    asyncResultFolder === null
      ? null
      : new AsyncStore(asyncResultFolder, (sentence) => deps.logger.error(sentence), deps.ownFolder);
  const errorRates = new ErrorRates(deps.config, () => performance.now());
  return {
    ...deps,
    service: timedService(deps.service),
    errorRates,
    access: deps.access ?? new AccessControl(deps.config, (sentence) => deps.logger.error(sentence)),
    asyncResults: new AsyncResults(
      {
        maxResults: asyncResultLimit,
        maxBytes: asyncResultMemoryMb * BYTES_PER_MIB,
        ttlMs: asyncResultTtlSeconds * 1000,
      },
      store,
    ),
    sessions: new Sessions(),
    accessLog: accessLogOf(deps.logger),
    draining: false,
    countError: (error, status) => errorRates.count(error.code, status),
  };
}
