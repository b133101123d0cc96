/**
 * Runs a function once over stand-ins and keeps the operators it called.
 *
 * In      a function whose parameters are the feeds, by their names; examples, feeds by name
 * Out     Pipeline; its answers to the examples are its goldens
 * Limits  only calls of operators are kept: the branch that was taken, the rounds that were made
 * Errors  ServingError BAD_REQUEST: parameters that have no plain names, an example that does not fit, an answer that is not traced
 */
import { ServingError } from '../proto/errors.js';
import { savePack } from './pack.js';
import { type Feeds, type Golden, type Outputs, Pipeline } from './pipeline.js';
import { Trace, type Traced } from './tracing.js';

type Answer = Traced | Readonly<Record<string, Traced>>;

export async function trace(
  traced: (...feeds: Traced[]) => Answer | Promise<Answer>,
  examples: Feeds | readonly Feeds[],
): Promise<Pipeline> {
  const feeds = parameterNames(traced);
  const record = new Trace();
  const answer = await traced(...feeds.map((name) => record.feed(name)));
  const graph = { feeds, nodes: record.nodes, outputs: outputsOf(answer, record) };
  const given = Array.isArray(examples) ? (examples as readonly Feeds[]) : [examples as Feeds];
  if (given.length === 0) throw bad('trace() needs an example: its answer is kept beside the pipeline');
  const plain = new Pipeline(graph, [], savePack);
  const goldens: Golden[] = [];
  for (const one of given) goldens.push({ feeds: one, output: await plain.run(one) });
  return new Pipeline(graph, goldens, savePack);
}

function outputsOf(answer: Answer, record: Trace): Outputs {
  const from = record.sourceOf(answer);
  if (from !== null) return { kind: 'one', from };
  if (typeof answer !== 'object' || answer === null)
    throw bad('a traced function must return what an operator gave it');
  const named = Object.entries(answer).map(([name, one]) => {
    const source = record.sourceOf(one);
    if (source === null) throw bad(`output ${name} is no traced value`);
    return [name, source] as const;
  });
  return { kind: 'named', from: Object.fromEntries(named) };
}

const PARAMETERS = /^(?:async\s+)?(?:function\b[^(]*|[\w$]+\s*)?\(([^)]*)\)|^(?:async\s+)?([\w$]+)\s*=>/;

function parameterNames(traced: (...feeds: Traced[]) => unknown): string[] {
  const match = PARAMETERS.exec(Function.prototype.toString.call(traced));
  const list = match?.[1] ?? match?.[2];
  const names = (list ?? '')
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== '');
  const odd = names.find((one) => !/^[A-Za-z_$][\w$]*$/.test(one));
  if (list === undefined || odd !== undefined)
    throw bad(`the parameters of a traced function are its feeds: plain names, not ${odd ?? 'this'}`);
  return names;
}

const bad = (message: string): ServingError => new ServingError('BAD_REQUEST', message);
