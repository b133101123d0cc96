/**
 * Who may import whom: the README's picture as a table.
 *
 * In      a file's path and text
 * Out     the edges that no rule allows, each as one sentence
 * Limits  relative imports only (`import`, `export … from`, `import()`); packages and node: are nobody's edge
 */
import path from 'node:path';

/** Layer → layers it may import besides itself. A layer is a folder, or a file with a rule of its own. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  proto: [],
  partitioner: ['proto'],
  'shard-worker': ['proto'],
  // Leaves: they know no layer.
  // Runs a model on its own shards: what a partition must know of its activations.
  calibration: ['partitioner', 'shard-worker', 'proto'],
  // Asks servers by their sockets, and knows none from within.
  tuner: ['proto'],
  // What models' answers are called: the same names in a key and in a request.
  'server/config': ['server/requests', 'proto'],
  'server/access': ['proto'],
  'server/logging': ['proto'],
  'server/machine': ['proto'],
  'server/metrics': ['proto'],
  // A command of its own.
  'server/gpu': ['server/config', 'server/machine', 'server/model-store', 'proto'],
  // Whose work lies there: a process's identity.
  'server/model-store': ['server/machine', 'proto'],
  // Whose key a request came with bounds its priority.
  'server/requests': ['server/access', 'proto'],
  'server/text': ['server/requests', 'proto'],
  'server/jobs': ['server/requests', 'proto'],
  // An engine sees the contract, never the manager; the manager sees the contract, never an engine.
  'server/engines': [
    'server/config',
    'server/jobs',
    'server/machine',
    'server/model-store',
    'server/requests',
    'proto',
  ],
  'server/coordinator': ['server/machine', 'proto'],
  'server/batching': ['server/jobs', 'server/requests', 'server/text', 'proto'],
  'server/engines/llm': [
    'server/engines',
    'server/batching',
    'server/config',
    'server/coordinator',
    'server/jobs',
    'server/machine',
    'server/model-store',
    'server/requests',
    'server/text',
    'proto',
  ],
  'server/engines/onnx': [
    'server/engines',
    'server/config',
    'server/jobs',
    'server/machine',
    'server/requests',
    'proto',
  ],
  // Also without a server: an entry point of its own.
  pipeline: ['server/text', 'proto'],
  'server/engines/handlers': [
    'server/engines',
    'pipeline',
    'server/text',
    'server/config',
    'server/jobs',
    'server/machine',
    'server/requests',
    'proto',
  ],
  'server/work-load-manager': [
    'server/engines',
    'server/config',
    'server/jobs',
    'server/machine',
    'server/model-store',
    'server/requests',
    'proto',
  ],
  // Models of the work load manager, joined; it asks them by who asks it.
  // Pure: scores in, contributions out.
  'server/explanations': ['proto'],
  'server/workflows': ['server/config', 'server/requests', 'proto'],
  // Transports see requests and what serves them, never an engine.
  'server/http': [
    'server/access',
    'server/config',
    'server/explanations',
    'server/requests',
    'server/text',
    'proto',
  ],
  'server/grpc': ['server/access', 'server/config', 'server/requests', 'proto'],
  // A flavour of the server: parts for main.
  'server/torchserve': [
    'server/access',
    'server/config',
    'server/grpc',
    'server/http',
    'server/metrics',
    'server/model-store',
    'server/requests',
    'proto',
  ],
  // server/main and the command line put everything together.
  server: [
    'server/torchserve',
    'server/access',
    'server/http',
    'server/grpc',
    'server/work-load-manager',
    'server/workflows',
    'server/engines',
    'server/engines/llm',
    'server/engines/onnx',
    'server/engines/handlers',
    'server/machine',
    'server/metrics',
    'server/model-store',
    'server/logging',
    'server/config',
    'server/requests',
    'proto',
  ],
};

/** The most exact layer that a path lies in, or null for one outside the product. */
export function layerOf(file: string): string | null {
  const inServer = /^server\/(engines\/[^/]+|[^/]+)\//.exec(file);
  if (inServer) return `server/${inServer[1]}`;
  const top = file.split('/')[0]!;
  return top in ALLOWED ? top : null;
}

/** Paths that a file imports, from the root. */
export function importsOf(file: string, text: string): { target: string; line: number }[] {
  const found: { target: string; line: number }[] = [];
  const specifier = /(?:^|\s)(?:from|import)\s*\(?\s*['"](\.[^'"]*)['"]/g;
  text.split('\n').forEach((line, index) => {
    if (/^\s*(?:\*|\/\/)/.test(line)) return;
    for (const match of line.matchAll(specifier)) {
      found.push({ target: path.posix.join(path.posix.dirname(file), match[1]!), line: index + 1 });
    }
  });
  return found;
}

/** Sentences about the imports of a file that the picture does not have. */
export function forbiddenImports(file: string, text: string): string[] {
  const layer = layerOf(file);
  if (layer === null) return [];
  const allowed = ALLOWED[layer];
  if (!allowed)
    return [`${file}: ${layer} is no layer of the picture; give it a rule in test/tidy/import-rules.ts`];
  return importsOf(file, text).flatMap(({ target, line }) => {
    const targetLayer = layerOf(target);
    if (targetLayer === layer || (targetLayer !== null && allowed.includes(targetLayer))) return [];
    const may = allowed.length > 0 ? allowed.join(', ') : 'nothing';
    return [
      `${file}:${line} imports ${target}: ${layer} may import ${may}, not ${targetLayer ?? 'what is outside'}`,
    ];
  });
}

/** Edges that the picture has and no file uses: a rule is no wider than what there is. @param textOf the text of each file by its path */
export function unusedRules(textOf: ReadonlyMap<string, string>): string[] {
  const used = new Set<string>();
  for (const [file, text] of textOf)
    for (const { target } of importsOf(file, text)) used.add(`${layerOf(file)} to ${layerOf(target)}`);
  return Object.entries(ALLOWED).flatMap(([layer, targets]) =>
    targets.map((target) => `${layer} to ${target}`).filter((edge) => !used.has(edge)),
  );
}

/**
 * Files that import each other, in however many steps; imports of types count, since a circle of types is a circle to a reader.
 *
 * @param textOf the text of each product file by its path (.ts or .mjs)
 * @returns each circle once, as the files on it in order
 */
export function importCircles(textOf: ReadonlyMap<string, string>): string[][] {
  const edges = new Map(
    [...textOf].map(([file, text]) => [
      file,
      importsOf(file, text)
        .map(({ target }) => target.replace(/\.js$/, '.ts'))
        .filter((target) => textOf.has(target)),
    ]),
  );
  const done = new Set<string>();
  const circles: string[][] = [];
  const visit = (file: string, trail: string[]): void => {
    const at = trail.indexOf(file);
    if (at >= 0) {
      circles.push(trail.slice(at));
      return;
    }
    if (done.has(file)) return;
    for (const target of edges.get(file)!) visit(target, [...trail, file]);
    done.add(file);
  };
  for (const file of edges.keys()) visit(file, []);
  return circles;
}
