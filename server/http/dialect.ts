/**
 * A dialect: one API that a listener answers, in a folder of its own under dialects/, and one line in dialects/all-dialects.ts.
 *
 * In      the app of a listener, scoped to the dialect's routes; the context that all listeners share
 * Out     routes; the words of its errors, also for paths under its prefix that nobody has
 *
 * A dialect reads requests into those of server/requests and writes their events as its clients expect them. It may read and answer
 * by what lies in bodies/ and answers/; it sees no engine and no other dialect's routes.
 */
import type { TObject, TSchema } from '@sinclair/typebox';
import type { FastifyInstance } from 'fastify';
import type { ServingError } from '../../proto/errors.js';
import type { Scope } from '../access/access-key.js';
import type { ServerConfig } from '../config/config.js';
import type { Task } from '../requests/service.js';
import type { ErrorAnswer } from './errors.js';
import type { HttpContext } from './http-context.js';

/** What a listener is for; several may share one address. Also the scope that its routes need, as a rule. */
export type ListenerRole = 'inference' | 'management' | 'metrics';

export const SCOPE_OF_ROLE: Readonly<Record<ListenerRole, Scope>> = {
  inference: 'infer',
  management: 'manage',
  metrics: 'metrics',
};

export const ALL_ROLES = Object.keys(SCOPE_OF_ROLE) as ListenerRole[];

export interface DialectWords {
  /** Begins every path of the dialect; the longest that fits a path decides whose words are used. */
  readonly prefix: string;
  /** What an error is where no route has taken the request, or its route has no handler of errors. */
  error(error: ServingError, config: ServerConfig): ErrorAnswer;
}

/** A route, as the reference at `/` and `/openapi.json` tell it. */
export interface DocumentedRoute {
  readonly method: string;
  /** As Fastify has it. */
  readonly path: string;
  readonly summary: string;
  readonly query?: TObject;
  readonly body?: TSchema;
  /** What it cannot do without of its query. */
  readonly requiredQuery?: readonly string[];
  /** A query for the model of this name. */
  readonly exampleQuery?: (model: string) => Readonly<Record<string, string>>;
  /** A body that works, for the model of this name. */
  readonly example?: (model: string) => unknown;
  /** What the example's model is for; absent: anything. */
  readonly tasks?: readonly Task[];
  /** One that has a chat template, where there is one. */
  readonly isChat?: true;
}

export interface Dialect {
  readonly name: string;
  /** Served by every listener that has one of these. */
  readonly roles: readonly ListenerRole[];
  /** One of which is enough for its routes, unless a route says otherwise. */
  readonly access: readonly Scope[] | 'open';
  /** Absent: errors are told in the words of the path's prefix. */
  readonly words?: DialectWords;
  /** Another method of one of its paths is told apart from an unknown path (405, not 404). */
  readonly refusesMethods: boolean;
  /** The body that answers OPTIONS of its paths; absent: only where a route does. */
  readonly preflight?: string;
  /** Bytes of its longest body, below max_request_size; absent: bodyBytesOf says. */
  readonly longestBody?: number;
  /** What a newcomer is told of its routes; absent: nothing. */
  readonly reference?: readonly DocumentedRoute[];
  routes(app: FastifyInstance, context: HttpContext): Promise<void>;
}

/** For registrations, probes, readers of metrics. */
export const SHORT_BODY_BYTES = 1_048_576;

/** Bytes of the longest body of a dialect; null: as many as max_request_size. Only what asks a model is long. */
export function bodyBytesOf({ access, longestBody }: Pick<Dialect, 'access' | 'longestBody'>): number | null {
  if (longestBody !== undefined) return longestBody;
  return access === 'open' || !access.includes('infer') ? SHORT_BODY_BYTES : null;
}

/** Paths of a dialect as Fastify has them, to be matched against what was asked. */
export class KnownPaths {
  readonly #patterns: { path: RegExp; dialect: Dialect }[] = [];

  add(url: string, dialect: Dialect): void {
    const parts = url.split('/').map((part) => {
      if (part === '*') return '.*';
      return part.startsWith(':') ? '[^/?]*' : part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    });
    this.#patterns.push({ path: new RegExp(`^${parts.join('/')}/?(?:\\?.*)?$`), dialect });
  }

  /** The dialect that has a path, whatever the method, and tells so; null: nobody. */
  find(url: string): Dialect | null {
    const found = this.#patterns.find(({ path, dialect }) => dialect.refusesMethods && path.test(url));
    return found?.dialect ?? null;
  }
}

/** @throws TypeError where no prefix fits: one dialect must have `/` */
export function wordsFor(url: string, dialects: readonly Dialect[]): DialectWords {
  const fitting = dialects.flatMap(({ words }) => (words && url.startsWith(words.prefix) ? [words] : []));
  return fitting.reduce((longest, words) => (words.prefix.length > longest.prefix.length ? words : longest));
}
