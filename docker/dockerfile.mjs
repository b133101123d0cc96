/**
 * Reads a Dockerfile: its stages, their steps, and what a container of the last one runs.
 *
 * In      the text of a Dockerfile
 * Out     stages in order, each with its steps and settings
 * Limits  what this repository's files use: FROM … AS, WORKDIR, ENV, ARG, COPY, RUN (shell form), USER, VOLUME, EXPOSE, HEALTHCHECK,
 *         ENTRYPOINT and CMD (JSON form). No heredocs, no variables within lines but those of the ARGs before the first FROM, in FROM
 * Errors  Error with the line, for anything else: a step that is not understood must not be left out unseen
 * Source  Dockerfile reference, frontend docker/dockerfile:1
 */

/**
 * @typedef {{ kind: 'run', command: string } | { kind: 'copy', from: string | null, sources: string[], target: string } | { kind: 'workdir', folder: string }
 *   | { kind: 'env' | 'arg', values: Record<string, string> }} Step
 * @typedef {{ base: string, name: string | null, steps: Step[], env: Record<string, string>, workdir: string, user: string, volumes: string[],
 *   ports: number[], healthcheck: string[] | null, entrypoint: string[], cmd: string[] }} Stage
 */

/**
 * @param {string} text
 * @param {{ args?: Record<string, string>, bases?: Record<string, Stage> }} given build arguments; the last stages of images that it may build on,
 *   by name: a stage begins with the settings of its base
 * @returns {Stage[]}
 */
export function readDockerfile(text, { args = {}, bases = {} } = {}) {
  const stages = [];
  /** What FROM may name. */
  const before = {};
  for (const { line, number } of logicalLines(text)) {
    const [, word, rest] = /^(\S+)\s+(.*)$/s.exec(line) ?? [null, line, ''];
    const read = INSTRUCTIONS[word.toUpperCase()];
    const stage = stages.at(-1);
    const fail = (why) => {
      throw new Error(`Dockerfile line ${number}: ${why}: ${line}`);
    };
    if (word.toUpperCase() === 'FROM') stages.push(newStage(rest, { bases, before, stages }, fail));
    else if (word.toUpperCase() === 'ARG') {
      const values = buildArgument(rest, args, fail);
      if (stage === undefined) Object.assign(before, values);
      else stage.steps.push({ kind: 'arg', values });
    } else if (read === undefined) fail('this instruction is not known here');
    else if (stage === undefined) fail('there is no FROM before it');
    else read(stage, rest, fail);
  }
  return stages;
}

/** Lines with their continuations joined, without comments and blank ones. */
function logicalLines(text) {
  const lines = [];
  let open = null;
  for (const [index, raw] of text.split('\n').entries()) {
    if (/^\s*(?:#|$)/.test(raw)) continue;
    open ??= { line: '', number: index + 1 };
    const isContinued = /\\\s*$/.test(raw);
    open.line += isContinued ? `${raw.replace(/\\\s*$/, '').trim()} ` : raw.trim();
    if (isContinued) continue;
    lines.push(open);
    open = null;
  }
  if (open !== null) throw new Error(`Dockerfile line ${open.number}: it ends in a continuation`);
  return lines;
}

function newStage(rest, { bases, before, stages }, fail) {
  const [, image, name = null] = /^(\S+)(?:\s+AS\s+(\S+))?$/i.exec(rest) ?? fail('FROM image [AS name]');
  const base = image.replace(
    /\$\{(\w+)\}/g,
    (_, one) => before[one] ?? fail(`there is no ARG ${one}= before it`),
  );
  const built = stages.find((stage) => stage.name === base) ?? bases[base];
  if (built !== undefined) {
    const { env, ports, volumes } = built;
    return {
      ...built,
      ...{ base, name, steps: [], env: { ...env }, ports: [...ports], volumes: [...volumes] },
    };
  }
  return {
    ...{ base, name, steps: [], env: {}, workdir: '/', user: 'root', volumes: [], ports: [] },
    ...{ healthcheck: null, entrypoint: [], cmd: [] },
  };
}

/** Its value by the caller or the file; {}: it has none. */
function buildArgument(rest, args, fail) {
  const [, name, set, value] = /^([A-Za-z_]\w*)(=(.*))?$/.exec(rest) ?? fail('ARG NAME[=value] is wanted');
  const found = args[name] ?? (set === undefined ? undefined : value);
  return found === undefined ? {} : { [name]: found };
}

const jsonList = (text, fail) => {
  try {
    const list = JSON.parse(text);
    if (Array.isArray(list) && list.every((one) => typeof one === 'string')) return list;
  } catch {
    // The sentence below says what is wanted.
  }
  return fail('a JSON list of strings is wanted');
};

const INSTRUCTIONS = {
  WORKDIR: (stage, rest, fail) => {
    if (!rest.startsWith('/')) fail('an absolute folder is wanted');
    stage.workdir = rest;
    stage.steps.push({ kind: 'workdir', folder: rest });
  },
  ENV: (stage, rest, fail) => {
    const pair = /^([A-Za-z_]\w*)=(?:"([^"$\\]*)"|([^\s"'$\\]*))(?:\s+|$)/;
    const values = {};
    for (let left = rest; left !== ''; ) {
      const [all, name, quoted, bare] = pair.exec(left) ?? fail('NAME=value without variables is wanted');
      values[name] = quoted ?? bare;
      left = left.slice(all.length);
    }
    Object.assign(stage.env, values);
    stage.steps.push({ kind: 'env', values });
  },
  COPY: (stage, rest, fail) => {
    const words = rest.split(/\s+/);
    const from = words[0].startsWith('--from=') ? words.shift().slice('--from='.length) : null;
    if (words.length < 2 || words.some((word) => word.startsWith('--')))
      fail('COPY [--from=stage] source… target');
    stage.steps.push({ kind: 'copy', from, sources: words.slice(0, -1), target: words.at(-1) });
  },
  RUN: (stage, rest, fail) => {
    if (/^(?:--|\[|<<)/.test(rest)) fail('the shell form without flags is wanted');
    stage.steps.push({ kind: 'run', command: rest });
  },
  USER: (stage, rest) => {
    stage.user = rest;
  },
  VOLUME: (stage, rest, fail) => {
    stage.volumes.push(...(rest.startsWith('[') ? jsonList(rest, fail) : rest.split(/\s+/)));
  },
  EXPOSE: (stage, rest) => {
    stage.ports.push(...rest.split(/\s+/).map(Number));
  },
  HEALTHCHECK: (stage, rest, fail) => {
    const [, command] =
      /^(?:--[a-z-]+=\S+\s+)*CMD\s+(.*)$/s.exec(rest) ?? fail('options, then CMD, are wanted');
    stage.healthcheck = jsonList(command, fail);
  },
  ENTRYPOINT: (stage, rest, fail) => {
    stage.entrypoint = jsonList(rest, fail);
  },
  CMD: (stage, rest, fail) => {
    stage.cmd = jsonList(rest, fail);
  },
};

/**
 * Which paths of the context do not reach the build.
 *
 * @param {string} text of a .dockerignore: plain paths, or a name at any depth after two stars and a slash
 * @returns {(relative: string) => boolean}
 */
export function ignoredBy(text) {
  const patterns = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  const odd = patterns.find((pattern) => !/^(?:\*\*\/)?[\w./-]+$/.test(pattern));
  if (odd !== undefined) throw new Error(`.dockerignore: this pattern is not known here: ${odd}`);
  const anywhere = new Set(patterns.filter((one) => one.startsWith('**/')).map((one) => one.slice(3)));
  const paths = patterns.filter((one) => !one.startsWith('**/'));
  return (relative) =>
    relative.split('/').some((name) => anywhere.has(name)) ||
    paths.some((one) => relative === one || relative.startsWith(`${one}/`));
}
